#!/bin/sh
# The network whose features patches are compared by, from a store: sh recipes/features.sh STORE RUN [DEVICE] [PRESET]
set -eu
[ $# -ge 2 ] || { echo "usage: sh recipes/features.sh STORE RUN [DEVICE] [PRESET]" >&2; exit 2; }
exec synthorax train features --data "$1" --out "$2" --device "${3:-auto}" --preset "${4:-compact}"
