# Debian packages, fetched and verified but never installed. Sourced by `build` after recipe.sh.
#
# apt runs here with its own sources and state, so the suite a recipe asks for need not be one
# this machine uses; the machine's proxy and other settings still hold. apt checks the suite's
# signature with Debian's keyring and each package with its digest.
# shellcheck shell=bash

readonly debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg
apt_dir=
apt_options=()

# The mirror this machine's own apt uses if it is a Debian, else debootstrap's default.
debian_mirror() {
  local mirror=${SUBLET_DEBIAN_MIRROR:-}
  if [ -z "$mirror" ] && [ "$(. /etc/os-release && echo "$ID")" = debian ]; then
    mirror=$(apt-get indextargets --format '$(REPO_URI)|$(RELEASE)|$(COMPONENT)' 'Created-By: Packages' |
      sed -n "s/^\(.*\)|$(. /etc/os-release && echo "$VERSION_CODENAME")|main$/\1/p" | head -n 1)
  fi
  [ -n "$mirror" ] || mirror=$(sed -n 's/^DEF_MIRROR="\(.*\)"$/\1/p' "$(command -v debootstrap)")
  [ -n "$mirror" ] || fail "no Debian mirror known: set SUBLET_DEBIAN_MIRROR to one"
  echo "${mirror%/}"
}

# use_suite SUITE: later calls read that suite's main section.
use_suite() {
  need apt-get apt-cache dpkg-deb
  [ -r "$debian_keyring" ] || fail "$debian_keyring is missing: run scripts/setup"
  apt_dir=$cache_dir/apt/$1
  mkdir -p "$apt_dir"/{state/lists/partial,cache/archives/partial,packages}
  : >"$apt_dir/status"
  echo "deb [arch=amd64 signed-by=$debian_keyring] $(debian_mirror) $1 main" >"$apt_dir/sources.list"
  apt_options=(
    -o "Dir::Etc::SourceList=$apt_dir/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
    -o "Dir::State=$apt_dir/state" -o "Dir::State::status=$apt_dir/status"
    -o "Dir::Cache=$apt_dir/cache" -o Dir::Cache::pkgcache=pkgcache.bin
    -o Dir::Cache::srcpkgcache=srcpkgcache.bin -o APT::Architecture=amd64 -o APT::Architectures=amd64
    -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false
    -o Acquire::Retries=3 -o APT::Sandbox::User= -o APT::Update::Error-Mode=any
  )
  say "reading Debian $1's package index"
  apt-get "${apt_options[@]}" -qq update >&2 ||
    { index_known && say "index not refreshed: going on with the one from before"; } ||
    fail "Debian $1 cannot be read from $(debian_mirror): see above; SUBLET_DEBIAN_MIRROR names another mirror"
}

index_known() { compgen -G "$apt_dir/state/lists/*_Packages*" >/dev/null; }

# package_version NAME
package_version() {
  apt-cache "${apt_options[@]}" show --no-all-versions "$1" | sed -n 's/^Version: //p' | head -n 1
}

# The package a kernel metapackage stands for now.
kernel_package() {
  local package
  package=$(apt-cache "${apt_options[@]}" show --no-all-versions "$1" |
    sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p' | head -n 1)
  [ -n "$package" ] || fail "$1 names no kernel package"
  echo "$package"
}

# fetch_package NAME -> path of the .deb, downloaded unless a good copy is at hand.
fetch_package() {
  local name=$1 digest file
  read -r _ file _ digest < <(apt-get "${apt_options[@]}" --print-uris download "$name" | tail -n 1)
  digest=${digest#SHA256:}
  file=$apt_dir/packages/$file
  if ! echo "$digest  $file" | sha256sum --check --status 2>/dev/null; then
    say "fetching $name"
    (cd "$apt_dir/packages" && rm -f "${name}"_*.deb && apt-get "${apt_options[@]}" -qq download "$name" >&2) ||
      fail "$name could not be fetched: see above"
    echo "$digest  $file" | sha256sum --check --status || fail "$file has a wrong digest"
  fi
  echo "$file"
}

# unpack_package NAME DIR
unpack_package() {
  mkdir -p "$2"
  dpkg-deb --extract "$(fetch_package "$1")" "$2"
}

# Changes when, and only when, the suite's packages do.
index_digest() { sha256sum "$apt_dir"/state/lists/*_Packages* | cut -d ' ' -f 1; }
