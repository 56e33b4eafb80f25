"""How good synthetic data is and what it is worth: distances, novelty, appearance, detection, intervals and tests."""
