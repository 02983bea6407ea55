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
  key=$({ declare -f bootstrap clean_root trim_root; echo "${include[*]}"; index_digest; } | sha256sum | cut -c 1-16)
  base=$cache_dir/debian-$suite-base-$key.tar
  if [ ! -f "$base" ]; then
    say "bootstrapping Debian $suite: a minute or two"
    bootstrap "$root"
    clean_root "$root"
    rm -f "$cache_dir/debian-$suite"-base-*.tar
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

# Takes out what belongs to this build or this machine.
clean_root() {
  local root=$1
  trim_root "$root"
  as_root rm -rf "$root"/etc/machine-id "$root"/var/lib/dbus/machine-id "$root"/debootstrap \
    "$root"/var/lib/systemd/random-seed
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

# Takes out what installing left behind, and what nobody reads in a rented computer. Licences stay.
trim_root() {
  local root=$1
  as_root rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/cache/ldconfig/* \
    "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old "$root"/var/log/* "$root"/tmp/* \
    "$root"/run/* "$root"/etc/.pwd.lock "$root"/etc/*- \
    "$root"/usr/share/man "$root"/usr/share/info "$root"/usr/share/locale "$root"/usr/share/doc-base
  as_root find "$root/usr/share/doc" -type f ! -name copyright -delete
  as_root find "$root/usr/share/doc" -depth -type d -empty -delete
}

# install_packages ROOT NAME...: with what they need, from the suite in use. They are fetched and
# checked outside and installed without a network; nothing is started.
install_packages() {
  local root=$1 debs=$cache_dir/debs-$suite
  shift
  say "installing $*"
  mkdir -p "$debs/partial"
  rm -f "$debs"/*.deb
  apt-get "${apt_options[@]}" -o "Dir::State::status=$root/var/lib/dpkg/status" -o "Dir::Cache::archives=$debs" \
    --no-install-recommends --download-only -y -qq install "$@" >"$work_dir/install.log" 2>&1 ||
    { tail -n 20 "$work_dir/install.log" >&2; fail "$* could not be fetched: see above"; }
  as_root cp -r "$debs" "$root/debs"
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$root/usr/sbin/policy-rc.d" >/dev/null
  as_root chmod 0755 "$root/usr/sbin/policy-rc.d"
  as_root chroot "$root" env -i PATH=/usr/sbin:/usr/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive \
    sh -c 'dpkg --unpack --force-unsafe-io /debs/*.deb && dpkg --configure --force-unsafe-io -a' \
    >"$work_dir/install.log" 2>&1 </dev/null ||
    { tail -n 20 "$work_dir/install.log" >&2; fail "$* could not be installed: see above"; }
  as_root rm -r "$root/debs" "$root/usr/sbin/policy-rc.d"
  trim_root "$root"
}
