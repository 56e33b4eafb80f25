"""The training loop of every system: a run folder, progress, clean stops, and resumption to the same bytes."""
