"""The nodule injector of CT-SGAN (appendix B), which adds a nodule at the erased centre of a volume of interest."""
