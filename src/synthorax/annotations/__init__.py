"""Annotations of readers, in every form they come in, turned into nodules and masks."""
