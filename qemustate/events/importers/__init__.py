"""Foreign traces: one file per format."""
