"""FLIVE."""
