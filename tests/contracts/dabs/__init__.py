"""A system without weights, as another package would have it: it dabs balls into scans and out of them."""

from synthorax.registry import Entry

ENTRY = Entry("dabs", "dabs", frozenset({"injects", "erases", "judges"}), "", "Balls of one density.")
