"""Network blocks that several systems and tasks share."""
