"""KADID-10k."""
