"""A procedural chest CT with exact masks: anatomy drawn from a seed in millimetres, put on voxels and scanned."""
