#!/bin/bash
# Makes the root file system of a kind node: Debian packages, kind's own base files, and the Kubernetes binary.
#
#   build-rootfs.sh ROOTFS
#
# Environment: BIN (directory with kubeall), KIND_BASE_FILES (images/base/files of kind's Go module),
# MANIFESTS (directory with the default CNI and storage manifests), KUBERNETES_VERSION (vX.Y.Z).
# The files follow kind's images/base/Dockerfile; what differs says why.
set -euo pipefail
rootfs=$1
here=$(cd "$(dirname "$0")" && pwd)

packages=(
  systemd systemd-sysv dbus
  conntrack iptables nftables ipset iproute2 ethtool socat
  util-linux mount kmod libseccomp2 procps
  bash ca-certificates curl jq
  containerd runc containernetworking-plugins
)

install_debian() {
  # The host's own sources are the mirror this machine is known to reach.
  local sources=()
  if [ -f /etc/apt/sources.list.d/debian.sources ] && grep -q bookworm /etc/apt/sources.list.d/debian.sources; then
    sources=(/etc/apt/sources.list.d/debian.sources)
  fi
  mmdebstrap --quiet --variant=minbase --mode=root \
    --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --include="$(IFS=,; echo "${packages[*]}")" \
    bookworm "$rootfs" "${sources[@]}"
}

install_kind_files() {
  cp -r --no-preserve=mode,ownership "$KIND_BASE_FILES/." "$rootfs/"
  chmod 755 "$rootfs"/usr/local/bin/* "$rootfs"/kind/bin "$rootfs"/kind/bin/*
  mkdir -p "$rootfs"/etc/kubernetes/manifests "$rootfs"/etc/cni/net.d "$rootfs"/opt/cni/bin "$rootfs"/kind/manifests
  for plugin in host-local loopback ptp portmap; do
    mv "$rootfs/usr/lib/cni/$plugin" "$rootfs/opt/cni/bin/"
  done
  cp "$MANIFESTS"/*.yaml "$rootfs/kind/manifests/"
  echo -n "$KUBERNETES_VERSION" > "$rootfs/kind/version"
}

# A container must not run the units that set up real hardware.
enable_units() {
  local units=$rootfs/lib/systemd/system
  rm -f "$units"/sysinit.target.wants/systemd-tmpfiles-setup.service "$units"/multi-user.target.wants/* \
    "$units"/local-fs.target.wants/* "$units"/sockets.target.wants/*udev* "$units"/sockets.target.wants/*initctl* \
    "$units"/basic.target.wants/* "$rootfs"/etc/systemd/system/*.wants/*
  # Debian's unit would be a second definition beside kind's.
  rm -f "$units"/containerd.service "$units"/runc.service
  # These set fs.protected_* and kernel.pid_max, which are the host's: a privileged node would change them.
  rm -f "$rootfs"/usr/lib/sysctl.d/*
  echo ReadKMsg=no >> "$rootfs/etc/systemd/journald.conf"
  ln -sf /lib/systemd/systemd "$rootfs/sbin/init"
  chroot "$rootfs" systemctl --quiet enable kubelet.service containerd.service undo-mount-hacks.service
  chroot "$rootfs" systemctl --quiet mask systemd-binfmt.service
}

# Debian's containerd lives elsewhere than kind's. Without CAP_SYS_RESOURCE, which containers inside virtual
# machines often lack, a container whose OOM score must be lowered would not start: hence the restriction.
configure_containerd() {
  sed -i 's#/usr/local/bin/containerd#/usr/bin/containerd#' "$rootfs/etc/systemd/system/containerd.service"
  sed -i -e 's#restrict_oom_score_adj = false#restrict_oom_score_adj = true#' \
    -e 's#^\( *sandbox_image\) = .*#\1 = "registry.k8s.io/pause:3.10.1"#' "$rootfs/etc/containerd/config.toml"
  chroot "$rootfs" ctr oci spec \
    | jq '.hooks.createContainer += [{"path": "/kind/bin/mount-product-files.sh"}] | del(.process.rlimits)' \
    > "$rootfs/etc/containerd/cri-base.json"
}

install_kubernetes() {
  install -m 755 "$BIN/kubeall" "$rootfs/usr/bin/kubeall"
  for program in kubeadm kubelet kubectl; do
    ln -s kubeall "$rootfs/usr/bin/$program"
  done
  install -m 755 "$here/crictl" "$rootfs/usr/local/bin/crictl"
}

# Every node copies what is left, so what no node reads goes.
shrink() {
  rm -rf "$rootfs"/usr/share/{doc,locale,perl}/* "$rootfs"/usr/lib/*-linux-gnu/perl "$rootfs"/usr/lib/cni \
    "$rootfs"/var/cache/debconf/* "$rootfs"/var/lib/apt/lists/* "$rootfs"/var/cache/apt/*.bin
}

install_debian
install_kind_files
enable_units
configure_containerd
install_kubernetes
shrink
