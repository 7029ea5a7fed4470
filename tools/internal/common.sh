# shellcheck shell=bash
# Sourced by the scripts of tools/: where things are, and how they run Bazel.

weft_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
# Bazel's action cache, and what tools/setup unpacks.
weft_cache="${WEFT_CACHE:-${HOME:-/tmp}/.cache/weft}"
export WEFT_CACHE="$weft_cache"

# weft_bazel COMMAND [FLAG|TARGET...]: Bazel in this workspace, with the cache that all configurations
# share. $BAZEL may name another Bazel, with startup options.
weft_bazel() {
  local command="$1"
  shift
  # shellcheck disable=SC2086  # $BAZEL is a command line.
  (cd "$weft_root" && ${BAZEL:-bazel} "$command" --disk_cache="$weft_cache/bazel" "$@")
}
