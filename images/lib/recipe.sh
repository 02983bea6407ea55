# What every recipe does alike: arguments, words, a work folder, image.toml. Sourced by `build`.
# shellcheck shell=bash
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
umask 022

readonly images_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly lib_dir=$images_dir/lib
# Downloads and the debootstrap cache live here, never in the repository; safe to delete.
readonly cache_dir=${SUBLET_IMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sublet/images}

recipe=${recipe:?set by the recipe before sourcing this file}
out_dir=
guest_program=
work_dir=

say() { printf '%s: %s\n' "$recipe" "$*" >&2; }
fail() { say "$*"; exit 1; }

# OUT_DIR GUEST_PROGRAM, checked; a work folder that goes away with the build.
begin() {
  [ "$#" = 2 ] || { echo "usage: images/$recipe/build OUT_DIR GUEST_PROGRAM" >&2; exit 2; }
  guest_program=$2
  [ -f "$guest_program" ] || fail "$guest_program is not a file: build sublet-guest first"
  check_static "$guest_program"
  mkdir -p "$1" "$cache_dir"
  out_dir=$(cd "$1" && pwd)
  work_dir=$(mktemp -d "${TMPDIR:-/tmp}/sublet-image.XXXXXX")
  trap clean_up EXIT
  trap 'exit 130' INT TERM
}

# Only a recipe that needed root leaves files that need root to go.
clean_up() {
  rm -rf --one-file-system "$work_dir" 2>/dev/null || as_root rm -rf --one-file-system "$work_dir"
}

# There is no loader in the smallest image, and none of the right version in the others.
check_static() {
  local headers
  need readelf
  headers=$(readelf --program-headers --wide "$1" 2>/dev/null) || fail "$1 is not an ELF program"
  ! grep -q INTERP <<<"$headers" ||
    fail "$1 is linked dynamically: build it with -C target-feature=+crt-static and an explicit --target"
}

need() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || fail "$program is missing: run scripts/setup"
  done
}

# Said before the work, not in the middle of it.
need_root() {
  [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || fail "root is needed to $1: run this as root or install sudo"
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "root is needed for: $*; run this as root or install sudo"
  fi
}

# Packs a folder into an initramfs that is the same bytes whenever its files are.
# The kernel's own initramfs already holds /dev/console.
pack_initramfs() {
  local tree=$1 out=$2
  find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  (cd "$tree" && find . -mindepth 1 -print0 | sort -z |
    cpio --quiet --null --create --format=newc --owner=0:0 --reproducible) >"$out"
}

# Moves finished files into OUT_DIR; image.toml last, so that it only ever names what is there.
publish() {
  local file
  rm -f "$out_dir/image.toml"
  for file in "$@" image.toml; do
    mv -f "$work_dir/$file" "$out_dir/$file"
    chmod 0644 "$out_dir/$file"
  done
  say "$(cd "$out_dir" && du -ch "$@" | tail -n 1 | cut -f 1) in $out_dir"
}
