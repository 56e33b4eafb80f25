"""The vanilla 3D GAN that CT-SGAN compares CT-SGAN with (section 4.2); it generates a whole chest in one piece."""
