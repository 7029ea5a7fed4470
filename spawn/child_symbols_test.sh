#!/usr/bin/env bash
# child_symbols_test.sh ARCHIVE...: the child's code calls nothing and uses no data outside itself, so
# no libc and no instrumentation has found its way in.
set -euo pipefail
for archive in "$@"; do
  [[ "$archive" == *.a ]] || continue
  seen=yes
  undefined="$(nm --undefined-only --format=posix "$archive" | grep -v ':$' | cut -d' ' -f1 || true)"
  undefined="$(grep -v '^_GLOBAL_OFFSET_TABLE_$' <<<"$undefined" || true)"
  if [[ -n "$undefined" ]]; then
    printf '%s refers to:\n%s\n' "$archive" "$undefined" >&2
    exit 1
  fi
  # The guard of split stacks, the canary, thread-locals: all by the segment register.
  if objdump --disassemble --no-show-raw-insn "$archive" | grep -n '%[fg]s:' >&2; then
    echo "$archive uses what belongs to a thread" >&2
    exit 1
  fi
  if ! nm --defined-only "$archive" | grep -q StartChild; then
    echo "$archive: this is not the child's code" >&2
    exit 1
  fi
done
[[ -n "${seen:-}" ]]
