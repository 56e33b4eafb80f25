"""Scans edited: a scan, a place and a method to a scan, a mask and the region that was changed."""
