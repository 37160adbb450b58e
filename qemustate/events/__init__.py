"""The record: what happened, kept."""
