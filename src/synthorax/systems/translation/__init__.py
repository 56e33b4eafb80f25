"""Label maps of tissues turned into CT, as in papers/4: Pix2Pix and CycleGAN, by slices or in three dimensions."""
