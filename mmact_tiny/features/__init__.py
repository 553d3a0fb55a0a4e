"""Features of frozen recognizers: computed once, classified by a linear probe, written to files."""
