"""Measures of synthetic data and of models trained on it: fidelity, memorisation, detection, intervals and tests."""
