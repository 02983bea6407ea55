# A Debian with systemd that the host boots directly: kernel, initramfs, a read-only erofs root under
# an overlay in memory, the guest program as a service. Sourced by `build` after recipe.sh.
#
# The recipe sets `suite`, `include`, `root_uuid` and `least_memory_mib`, then calls `build_debian`.
# shellcheck shell=bash

# shellcheck source=debian-root.sh
. "$lib_dir/debian-root.sh"
# shellcheck source=systemd-root.sh
. "$lib_dir/systemd-root.sh"

# In the initramfs, loaded before the root is mounted.
readonly boot_modules=(
  virtio_pci virtio_blk erofs overlay   # the root
  virtio_console                        # the guest program's port
  pvpanic-pci                           # a panic reaches QEMU as guest-panicked
  virtio_rng                            # entropy from the host
)

# build_debian OUT_DIR GUEST_PROGRAM: the whole recipe.
build_debian() {
  local kernel version
  begin "$@"
  need debootstrap mkfs.erofs cpio tar lz4 depmod
  need_root "make Debian's root"
  use_suite "$suite"
  kernel=$(kernel_package linux-image-cloud-amd64)
  unpack_package "$kernel" "$work_dir/kernel"
  unpack_package busybox-static "$work_dir/busybox"
  use_kernel "$work_dir/kernel"
  extract_kernel "$work_dir/vmlinux"
  make_initramfs
  make_root "$work_dir/root"
  version=$(cat "$work_dir/root/etc/debian_version")-$(package_version "$kernel")
  pack_root "$work_dir/root" "$work_dir/root.erofs"
  write_manifest "$version"
  publish vmlinux initrd.cpio root.erofs
}

make_initramfs() {
  local tree=$work_dir/tree
  say "packing the initramfs"
  mkdir -p "$tree"/{bin,dev,proc,sys,etc,root}
  # From trixie on it is below /usr.
  install -m 0755 "$(find "$work_dir/busybox" -path '*/bin/busybox')" "$tree/bin/busybox"
  ln -s busybox "$tree/bin/sh"
  install -m 0755 "$parts_dir/initramfs-init" "$tree/init"
  copy_modules "$tree" "${boot_modules[@]}"
  pack_initramfs "$tree" "$work_dir/initrd.cpio"
}

make_root() {
  local root=$1 overlay=$work_dir/overlay base
  base=$(debootstrapped)
  make_overlay "$overlay"
  say "unpacking Debian"
  mkdir "$root"
  as_root tar --extract --numeric-owner --xattrs --xattrs-include='*' --file "$base" --directory "$root"
  as_root cp --recursive --remove-destination "$overlay/." "$root/"
}

# What is laid over Debian's own files: modules, the guest program, which units run.
make_overlay() {
  local overlay=$1
  mkdir "$overlay"
  cp -r "$parts_dir/overlay/." "$overlay/"
  install -D -m 0755 "$guest_program" "$overlay/usr/lib/sublet/sublet-guest"
  add_modules "$overlay"
  choose_units "$overlay/etc/systemd"
}

choose_units() {
  local etc=$1
  mkdir -p "$etc"/system/{sysinit,multi-user}.target.wants
  ln -s /lib/systemd/system/multi-user.target "$etc/system/default.target"
  ln -s /usr/lib/systemd/system/sublet-guest.service "$etc/system/sysinit.target.wants/sublet-guest.service"
  ln -s /usr/lib/systemd/system/sublet-settled.service "$etc/system/multi-user.target.wants/sublet-settled.service"
  mask_units "$etc"
}

# Small clusters: 64 KiB ones save a seventh of the size and cost an emulated machine more than
# twice the instructions until python3 and git have started.
pack_root() {
  say "packing the root"
  as_root mkfs.erofs --quiet -zlz4hc,9 -C4096 -T "$SOURCE_DATE_EPOCH" \
    -U "$root_uuid" "$2" "$1" >"$work_dir/erofs.log" 2>&1 ||
    { cat "$work_dir/erofs.log" >&2; fail "mkfs.erofs failed: see above"; }
  as_root chown "$(id -u):$(id -g)" "$2"
}

write_manifest() {
  cat >"$work_dir/image.toml" <<END
name = "$recipe"
os = "debian"
version = "$1"
arch = "x86_64"
licence = "DFSG-free, per package in /usr/share/doc"
login_user = "root"
guest_channel = "org.sublet.guest.0"
command_line = "$(kernel_options)"

[minimum]
memory_mib = $least_memory_mib
vcpus = 1

[boot]
kind = "direct"
kernel = "vmlinux"
initrd = "initrd.cpio"
root = "root.erofs"
END
}
