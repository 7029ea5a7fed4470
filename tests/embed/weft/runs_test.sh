#!/usr/bin/env bash
# The program says what it has done, and exits with 0.
set -euo pipefail
for procs in 1 2 4; do
  said="$(WEFTMAXPROCS=$procs "$1")"
  if [[ "$said" != "100 echoes" ]]; then
    echo "with $procs procs it said: $said"
    exit 1
  fi
done
