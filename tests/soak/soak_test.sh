#!/bin/sh
# A few seconds of the soak; each repetition (tools/stress) with other numbers.
exec "$1" --duration=5s --seed="${WEFT_DELAY_SEED:-1}"
