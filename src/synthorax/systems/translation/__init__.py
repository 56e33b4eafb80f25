"""Translates label maps of tissues to CT, as in Hagvall Hörnstedt: Pix2Pix and CycleGAN, in slices or volumes."""
