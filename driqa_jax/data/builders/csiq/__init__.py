"""CSIQ."""
