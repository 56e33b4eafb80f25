#!/bin/sh
# Nodules drawn into scans, lung drawn over them, and CT patches, by flow matching. The same command goes on where the last leg stopped.
set -eu
if [ $# -lt 3 ] || [ $# -gt 5 ]; then
    echo "usage: $0 STORE OUT MINUTES [DEVICE] [PRESET]    (auto; compact, large, smoke)" >&2
    exit 2
fi
if command -v synthorax >/dev/null; then run=synthorax; else run="python3 -m synthorax"; fi
exec $run train flow --data "$1" --out "$2" --max-minutes "$3" --device "${4:-auto}" --preset "${5:-compact}"
