"""The network whose features patches are compared by."""
