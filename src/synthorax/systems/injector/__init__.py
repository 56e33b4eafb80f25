"""The nodule injector of papers/5 (appendix B), which adds a nodule at the erased centre of a volume of interest."""
