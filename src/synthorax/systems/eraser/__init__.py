"""The nodule eraser of papers/5 (appendix B), which replaces a nodule by healthy lung."""
