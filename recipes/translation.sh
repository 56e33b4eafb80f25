#!/bin/sh
# CT painted from label maps of tissues, by CycleGAN or Pix2Pix. The store is one that `prepare --tissue` made. The same command goes on where the last leg stopped.
set -eu
if [ $# -lt 3 ] || [ $# -gt 5 ]; then
    echo "usage: $0 STORE OUT MINUTES [DEVICE] [PRESET]    (auto; compact, compact2d, patch48, paper2d, paper3d, smoke)" >&2
    exit 2
fi
if command -v synthorax >/dev/null; then run=synthorax; else run="python3 -m synthorax"; fi
exec $run train translation --data "$1" --out "$2" --max-minutes "$3" --device "${4:-auto}" --preset "${5:-compact}"
