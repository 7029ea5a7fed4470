#!/usr/bin/env bash
# PROGRAM README TEXT: the program, which the build has taken from the page, prints TEXT, and the page
# says so.
set -euo pipefail
program="$1" readme="$2" text="$3"
for procs in 1 2 4; do
  printed="$(WEFTMAXPROCS=$procs "$program")"
  if [[ "$printed" != "$text" ]]; then
    printf 'with %s procs it printed:\n%s\ninstead of:\n%s\n' "$procs" "$printed" "$text"
    exit 1
  fi
done
while IFS= read -r line; do
  if ! grep -qF -- "$line" "$readme"; then
    echo "README.md does not say that it prints: $line"
    exit 1
  fi
done <<<"$text"
