"""LIVE In the Wild."""
