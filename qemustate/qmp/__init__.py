"""The wire: bytes, JSON, QAPI. Knows no VM."""
