#!/usr/bin/env bash
# dso_symbols_test.sh OBJECT...: no shared object has libgcc's split-stack runtime in it.
set -euo pipefail
for object in "$@"; do
  symbols="$(nm "$object")"
  if [[ "$symbols" == *__morestack_segments* ]]; then
    echo "$object: has libgcc's __morestack; it must link //stack:dso_shim" >&2
    exit 1
  fi
done
