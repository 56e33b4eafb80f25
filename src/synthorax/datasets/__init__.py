"""What can be trained on, and folders of what was made."""
