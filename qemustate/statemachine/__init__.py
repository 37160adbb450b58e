"""The meaning: explicit state machines folded over the record."""
