"""What several test files use: inputs, stores, makers and packages that tests make."""
