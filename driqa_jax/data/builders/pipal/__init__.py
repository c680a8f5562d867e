"""PIPAL."""
