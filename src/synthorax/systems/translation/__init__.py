"""Translates label maps of tissues to CT, as in papers/4: Pix2Pix and CycleGAN, in slices or in three dimensions."""
