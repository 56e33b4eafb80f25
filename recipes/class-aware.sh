#!/bin/sh
# Benign and malignant nodules in-painted into scans, by the class-aware in-painter. The same command goes on where the last leg stopped.
set -eu
if [ $# -lt 3 ] || [ $# -gt 5 ]; then
    echo "usage: $0 STORE OUT MINUTES [DEVICE] [PRESET]    (auto; compact, patch48, paper, smoke)" >&2
    exit 2
fi
if command -v synthorax >/dev/null; then run=synthorax; else run="python3 -m synthorax"; fi
exec $run train class-aware --data "$1" --out "$2" --max-minutes "$3" --device "${4:-auto}" --preset "${5:-compact}"
