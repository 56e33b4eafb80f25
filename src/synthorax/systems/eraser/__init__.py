"""The nodule eraser of CT-SGAN (appendix B), which replaces a nodule by healthy lung."""
