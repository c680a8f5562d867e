"""LIVE release 2."""
