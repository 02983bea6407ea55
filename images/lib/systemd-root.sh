# What is laid over a root with systemd, whatever boots it: kernel modules, and which units run.
# Sourced by `build` after recipe.sh. The files are in systemd-root/.
# shellcheck shell=bash

# shellcheck source=kernel.sh
. "$lib_dir/kernel.sh"

readonly parts_dir=$lib_dir/systemd-root

# In the root, for modprobe and udev: what a partition can have, not what a cloud could.
readonly root_modules=(
  drivers/block/{loop,nbd,virtio_blk,zram}.ko drivers/char/{hw_random,virtio_console.ko}
  drivers/md/{dm-mod,dm-crypt,dm-snapshot}.ko drivers/misc/pvpanic drivers/virtio
  drivers/net/{bonding,dummy,ipvlan,macvlan,net_failover,tun,veth,virtio_net,vxlan}.ko drivers/net/wireguard
  fs/{9p,autofs,btrfs,erofs,exfat,fat,fscache,fuse,isofs,netfs,nls,overlayfs,squashfs,udf,xfs}
  net/{802,8021q,9p,bridge,core,ipv4,ipv6,key,llc,netfilter,packet,sched,tls,unix,vmw_vsock,xfrm}
  arch/x86/crypto crypto lib
)

# Uncompressed, whatever the kernel package does: the root is compressed as a whole.
add_modules() {
  local overlay=$1 from=$kernel_tree/lib/modules/$kernel_release to=$1/usr/lib/modules/$kernel_release path found
  mkdir -p "$to"
  cp "$from"/modules.{builtin,builtin.modinfo,order} "$to/"
  for path in "${root_modules[@]}"; do
    for found in "$from/kernel/$path" "$from/kernel/$path".*; do
      [ -e "$found" ] || continue
      mkdir -p "$to/kernel/$(dirname "$path")"
      cp -r "$found" "$to/kernel/$(dirname "$path")/"
    done
  done
  find "$to" -name '*.ko.*' -print0 | while IFS= read -r -d '' found; do
    uncompressed "$found" >"${found%.*}"
    rm "$found"
  done
  drop_signatures "$to"
  # depmod looks below /lib, which in Debian is a link.
  ln -s usr/lib "$overlay/lib"
  depmod --basedir "$overlay" "$kernel_release"
  rm "$overlay/lib"
}

# Only what a partition needs runs at boot; each unit masked is time saved on an emulated machine.
mask_units() {
  mask "$parts_dir/masked-units" "$1/system"
  mask "$parts_dir/masked-generators" "$1/system-generators"
}

# mask LIST DIR: what systemd finds as a link to /dev/null in /etc it leaves alone.
mask() {
  local name
  mkdir -p "$2"
  while read -r name _; do
    case "$name" in '' | '#'*) continue ;; esac
    ln -sf /dev/null "$2/$name"
  done <"$1"
}
