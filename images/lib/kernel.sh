# Kernel and modules out of an unpacked kernel package. Sourced by `build` after recipe.sh.
# shellcheck shell=bash

kernel_tree=
kernel_release=

# use_kernel DIR: the folder a kernel package was unpacked into.
use_kernel() {
  kernel_tree=$1
  kernel_release=$(cd "$kernel_tree/boot" && echo vmlinuz-*)
  kernel_release=${kernel_release#vmlinuz-}
  # From trixie on modules are below /usr/lib only; the tools look below /lib.
  if [ ! -e "$kernel_tree/lib" ]; then ln -s usr/lib "$kernel_tree/lib"; fi
  depmod --basedir "$kernel_tree" "$kernel_release"
  # As old as the package: a rebuild from the same packages is the same bytes.
  export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(stat -c %Y "$kernel_tree/boot/vmlinuz-$kernel_release")}
}

# The uncompressed kernel: QEMU starts it by its PVH note, without firmware or decompression.
extract_kernel() {
  say "extracting kernel $kernel_release"
  "$lib_dir/extract-vmlinux" "$kernel_tree/boot/vmlinuz-$kernel_release" "$1" ||
    fail "no bootable kernel in vmlinuz-$kernel_release: see above"
}

# Kernel options of every image. The last line leaves out what costs an emulated machine tenths of
# a second at each boot and serves nobody: self-tests of the jitter entropy source and of a key
# derivation nothing uses, a key type for TPMs, the tracer's table of enum names. A kernel without
# a function of that name ignores it. What the host measures of itself (tsc_early_khz, lpj) it adds.
kernel_options() {
  echo -n "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off random.trust_cpu=on"
  echo -n " 8250.nr_uarts=1 cryptomgr.notests audit=0 rcupdate.rcu_expedited=1"
  echo -n " memhp_default_state=online_movable"
  echo -n " initcall_blacklist=jent_mod_init,crypto_kdf108_init,init_encrypted,trace_eval_init"
}

# copy_modules TREE NAME...: puts the modules, and what they need, uncompressed into an initramfs
# tree, and their paths in load order into its /etc/sublet/modules. Built-in ones need nothing.
copy_modules() {
  copy_modules_for modules "$@"
}

# copy_modules_for LIST TREE NAME...: the same, with the paths in /etc/sublet/LIST. What another list
# holds already stands there only.
copy_modules_for() {
  local list=$1 tree=$2 name kind path target
  shift 2
  mkdir -p "$tree/etc/sublet" "$tree/lib/modules"
  : >"$tree/etc/sublet/$list"
  for name in "$@"; do
    modprobe --dirname "$kernel_tree" --set-version "$kernel_release" --show-depends "$name" >"$work_dir/depends" ||
      fail "kernel $kernel_release has no module $name"
    while read -r kind path _; do
      [ "$kind" = insmod ] || continue
      target=/lib/modules/$(basename "$path" | sed 's/\.ko.*$/.ko/')
      [ ! -e "$tree$target" ] || continue
      uncompressed "$path" >"$tree$target"
      echo "$target" >>"$tree/etc/sublet/$list"
    done <"$work_dir/depends"
  done
  drop_signatures "$tree/lib/modules"
}

# Checking a signature takes an emulated machine 45 ms a module and proves nothing here: the
# digest of the whole image was checked, and these kernels load unsigned modules all the same.
drop_signatures() {
  find "$1" -name '*.ko' -exec "$lib_dir/drop-signatures" {} +
}

uncompressed() {
  case "$1" in
    *.ko) cat "$1" ;;
    *.ko.xz) xz -dc "$1" ;;
    *.ko.zst) zstd -dcq "$1" ;;
    *.ko.gz) gzip -dc "$1" ;;
    *) fail "$1 is compressed in an unknown way" ;;
  esac
}
