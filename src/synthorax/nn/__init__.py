"""Blocks that systems and task networks share."""
