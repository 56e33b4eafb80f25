"""Nodules rendered into CT: shape and attributes to HU in a real background, the classical baseline."""
