# A Debian root by debootstrap, cleaned and kept as a tar. Sourced by `build` after recipe.sh.
#
# The recipe sets `suite` and `include`, then calls `debootstrapped`.
# shellcheck shell=bash

# shellcheck source=debian.sh
. "$lib_dir/debian.sh"

# What a person expects of a server, beside what debootstrap calls minbase.
readonly server_packages=(
  systemd systemd-sysv dbus udev kmod
  procps iproute2 less nano
  python3 python3-venv rsync git openssh-client ca-certificates curl xz-utils zstd
)

# A tar of the bootstrapped and cleaned root, kept until the suite's index or the package list
# changes: this is nearly all of a build's time.
debootstrapped() {
  local base key root=$work_dir/bootstrap
  key=$({ declare -f bootstrap clean_root; echo "${include[*]}"; index_digest; } | sha256sum | cut -c 1-16)
  base=$cache_dir/$recipe-base-$key.tar
  if [ ! -f "$base" ]; then
    say "bootstrapping Debian $suite: a minute or two"
    bootstrap "$root"
    clean_root "$root"
    rm -f "$cache_dir/$recipe"-base-*.tar
    as_root tar --create --numeric-owner --xattrs --sort=name --one-file-system \
      --file "$base.new" --directory "$root" .
    mv -f "$base.new" "$base"
  fi
  echo "$base"
}

bootstrap() {
  local packages_dir=$cache_dir/debootstrap-$suite
  mkdir -p "$packages_dir"
  as_root debootstrap --variant=minbase --arch=amd64 --cache-dir="$packages_dir" \
    --include="$(IFS=,; echo "${include[*]}")" --keyring="$debian_keyring" \
    "$suite" "$1" "$(debian_mirror)" >"$work_dir/debootstrap.log" 2>&1 </dev/null ||
    { tail -n 20 "$work_dir/debootstrap.log" >&2; fail "debootstrap failed: see above"; }
}

# Takes out what belongs to this build or this machine, and what nobody reads in a rented computer.
# Licences stay.
clean_root() {
  local root=$1
  as_root rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/cache/ldconfig/* \
    "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old "$root"/var/log/* "$root"/tmp/* \
    "$root"/run/* "$root"/etc/machine-id "$root"/var/lib/dbus/machine-id "$root"/etc/.pwd.lock \
    "$root"/etc/*- "$root"/debootstrap "$root"/var/lib/systemd/random-seed \
    "$root"/usr/share/man "$root"/usr/share/info "$root"/usr/share/locale "$root"/usr/share/doc-base
  as_root find "$root/usr/share/doc" -type f ! -name copyright -delete
  as_root find "$root/usr/share/doc" -depth -type d -empty -delete
  # Debian's own mirror, whichever one this build used.
  local mirror
  mirror=$(sed -n 's/^DEF_MIRROR="\(.*\)"$/\1/p' "$(command -v debootstrap)")
  printf 'deb %s %s main\ndeb %s %s-updates main\ndeb %s-security %s-security main\n' \
    "$mirror" "$suite" "$mirror" "$suite" "$mirror" "$suite" | as_root tee "$root/etc/apt/sources.list" >/dev/null
  # Empty, not missing: made at each boot, and not taken for a first boot.
  as_root install -m 0444 /dev/null "$root/etc/machine-id"
  as_root mkdir -p "$root/var/lib/dbus"
  as_root ln -s /etc/machine-id "$root/var/lib/dbus/machine-id"
  echo debian | as_root tee "$root/etc/hostname" >/dev/null
  printf '127.0.0.1 localhost debian\n::1 localhost ip6-localhost\n' | as_root tee "$root/etc/hosts" >/dev/null
  # Both start when somebody asks for them; they need not at boot.
  as_root rm -f "$root"/usr/lib/systemd/system/multi-user.target.wants/{dbus,systemd-logind}.service
  as_root install -m 0644 /dev/null "$root/etc/resolv.conf"
  as_root install -m 0644 /dev/null "$root/etc/fstab"
}
