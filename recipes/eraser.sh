#!/bin/sh
# Healthy lung in the place of a nodule, by CT-SGAN's eraser. The same command goes on where the last leg stopped.
# MAKER puts the nodules in that it learns from: a run of the injector; rendering if not given.
set -eu
if [ $# -lt 3 ] || [ $# -gt 6 ]; then
    echo "usage: $0 STORE OUT MINUTES [DEVICE] [PRESET] [MAKER]    (auto; compact, paper, smoke; render)" >&2
    exit 2
fi
if command -v synthorax >/dev/null; then run=synthorax; else run="python3 -m synthorax"; fi
exec $run train eraser --data "$1" --out "$2" --max-minutes "$3" --device "${4:-auto}" --preset "${5:-compact}" ${6:+--maker "$6"}
