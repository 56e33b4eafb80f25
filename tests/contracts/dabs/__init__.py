"""A system without weights, as in another package: it adds balls to scans and removes them."""

from synthorax.registry import Entry

ENTRY = Entry("dabs", "dabs", frozenset({"injects", "erases", "judges"}), "", "Balls of one density.")
