"""Positive and negative nodule cubes from a 3D residual AC-WGAN-GP (Cui's thesis)."""
