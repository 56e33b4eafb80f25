"""What readers marked, from whatever form it comes in, to nodules and masks."""
