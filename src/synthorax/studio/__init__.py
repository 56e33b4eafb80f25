"""The studio: a local web page on which nodules are clicked into a scan, and read by people who do not know which."""
