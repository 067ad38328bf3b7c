"""The outside systems, one folder each; their errors become ours here."""
