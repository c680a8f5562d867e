"""SPAQ."""
