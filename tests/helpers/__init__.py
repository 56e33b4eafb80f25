"""Inputs, stores, makers, packages and checks that several test files use."""
