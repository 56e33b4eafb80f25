"""The papers' experiments: they compose systems and measures, and end in a table with intervals."""
