"""The papers' experiments: each runs systems and measures, and ends in a table with confidence intervals."""
