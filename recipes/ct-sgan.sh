#!/bin/sh
# Whole chests, slice by slice, by CT-SGAN. The same command goes on where the last leg stopped.
set -eu
if [ $# -lt 3 ] || [ $# -gt 6 ]; then
    echo "usage: $0 STORE OUT MINUTES [DEVICE] [PRESET] [ERASER]    (auto; compact, patch48, paper, smoke; a model that erases)" >&2
    exit 2
fi
if command -v synthorax >/dev/null; then run=synthorax; else run="python3 -m synthorax"; fi
exec $run train ct-sgan --data "$1" --out "$2" --max-minutes "$3" --device "${4:-auto}" --preset "${5:-compact}" ${6:+--erased-by "$6"}
