#!/bin/bash
# Collects nft and iptables with every library they load: the layer that kube-proxy and nodenet need besides
# their own static binary.
#
#   collect-tools.sh ROOTFS TARGET
set -euo pipefail
rootfs=$1
target=$2

libraries=$(basename "$(echo "$rootfs"/usr/lib/*-linux-gnu)")
mkdir -p "$target/usr/sbin" "$target/usr/lib/$libraries" "$target/run" "$target/etc"
ln -s usr/lib "$target/lib"
ln -s usr/lib "$target/lib64"
ln -s usr/sbin "$target/sbin"

cp "$rootfs/usr/sbin/xtables-nft-multi" "$rootfs/usr/sbin/nft" "$target/usr/sbin/"
for command in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
  ln -s xtables-nft-multi "$target/usr/sbin/$command"
done
cp -r "$rootfs/usr/lib/$libraries/xtables" "$target/usr/lib/$libraries/"

# The plugins in xtables/ are loaded at run time and need libraries that the programs themselves do not.
chroot "$rootfs" sh -c "ldd /usr/sbin/xtables-nft-multi /usr/sbin/nft /usr/lib/$libraries/xtables/*.so" |
  sed -n 's/.*=> \(\/[^ ]*\).*/\1/p' | sort -u |
  while read -r library; do
    cp -L "$rootfs/$library" "$target/usr/lib/$libraries/"
  done
loader=$(cd "$rootfs" && echo lib*/ld-linux-*.so.*)
cp -L "$rootfs/${loader%% *}" "$target/usr/lib/"
