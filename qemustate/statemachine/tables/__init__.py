"""The specification: one file of rows per machine, theory in prose above them."""
