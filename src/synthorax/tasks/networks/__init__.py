"""The networks that the papers measure synthetic data with."""
