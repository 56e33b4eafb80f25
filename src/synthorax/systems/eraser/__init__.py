"""The nodule eraser of papers/5 (appendix B): healthy lung in the place of a nodule."""
