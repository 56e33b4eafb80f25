"""Flow matching: generates a nodule, or lung without one, from noise in a region of a CT patch."""
