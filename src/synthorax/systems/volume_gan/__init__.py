"""The vanilla 3D GAN that CT-SGAN is compared with (papers/5, section 4.2): a whole chest in one piece."""
