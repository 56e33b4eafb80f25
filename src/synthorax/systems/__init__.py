"""The published systems, a package each, independent of each other."""
