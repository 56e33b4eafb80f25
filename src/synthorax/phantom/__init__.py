"""A procedural chest with exact truth: anatomy drawn from a seed in millimetres, put on voxels, scanned."""
