#!/usr/bin/env bash
# The example in the root README.md, which the build has taken from that page, prints what the page
# says it prints.
set -euo pipefail
program="$1"
readme="$2"
promised="$(sed -n 's/^It prints \([0-9]*\).*/\1/p' "$readme")"
for procs in 1 2 4; do
  printed="$(WEFTMAXPROCS=$procs "$program")"
  if [[ -z "$promised" || "$printed" != "$promised" ]]; then
    echo "with $procs procs: printed '$printed', README.md promises '$promised'"
    exit 1
  fi
done
