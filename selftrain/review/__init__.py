"""`selftrain review`: a local page on which a person accepts, rejects and corrects pseudo-labels."""
