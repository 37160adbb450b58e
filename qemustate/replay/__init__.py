"""The past: any trace, at any moment."""
