"""The tests of synthorax, in folders like those of its source."""
