"""Rendering of nodules into CT from a shape and attributes, the classical baseline."""
