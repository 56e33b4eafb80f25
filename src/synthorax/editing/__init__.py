"""Editing scans: from a scan, a place and a method to an edited scan, a mask and the edit region."""
