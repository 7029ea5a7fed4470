#!/bin/bash
# Runs the models' quick searches.
"$(dirname "$0")/check" --quick
status=$?
# 77: a tool is missing, which check has said.
[ "$status" = 77 ] && exit 0
exit "$status"
