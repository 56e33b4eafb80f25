"""Anatomy of a chest CT: lungs, tissues, places for nodules."""
