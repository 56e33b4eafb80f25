"""Flow matching: nodules, and lung without one, drawn from noise in a region of a patch of CT."""
