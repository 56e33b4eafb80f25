"""The nodule injector of papers/5 (appendix B): a nodule into the erased middle of a volume of interest."""
