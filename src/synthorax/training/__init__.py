"""One loop for every system: a run folder, progress, clean stops and exact resumption."""
