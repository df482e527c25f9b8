#!/bin/bash
# Unpacks an archive of images into the containerd store of a node's root file system, with the node's own
# containerd, so that nodes start with all their images and never pull.
#
#   import-images.sh ROOTFS ARCHIVE
set -euo pipefail

# In a mount namespace of its own, so that nothing stays mounted whatever happens.
if [ "${1:-}" != --in-namespace ]; then
  exec unshare --mount --pid --fork --kill-child "$0" --in-namespace "$@"
fi
rootfs=$2
archive=$3

mount -t proc proc "$rootfs/proc"
mount -t tmpfs tmpfs "$rootfs/run"
mount -t tmpfs tmpfs "$rootfs/tmp"
mount --bind /dev "$rootfs/dev"
touch "$rootfs/run/images.tar"
mount --bind "$archive" "$rootfs/run/images.tar"

cat > "$rootfs/run/containerd.toml" <<'TOML'
version = 2
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
TOML

in_node() { chroot "$rootfs" "$@"; }
images() { in_node ctr --namespace k8s.io "$@"; }

in_node containerd --config /run/containerd.toml > "$rootfs/run/containerd.log" 2>&1 &
containerd=$!
for attempt in $(seq 100); do
  if in_node ctr version > /dev/null 2>&1; then
    break
  fi
  if [ "$attempt" = 100 ] || ! kill -0 "$containerd" 2> /dev/null; then
    echo "containerd did not start:" >&2
    cat "$rootfs/run/containerd.log" >&2
    exit 1
  fi
  sleep 0.1
done

images images import --snapshotter overlayfs /run/images.tar

# Once unpacked, the layers' blobs are dead weight that every node would copy: drop the references to them.
for digest in $(images images ls | awk 'NR > 1 { print $3 }' | sort -u); do
  images content label "$digest" containerd.io/gc.ref.content.l.{0,1,2}= > /dev/null
done
images content prune references > /dev/null

kill "$containerd"
wait "$containerd" || true
