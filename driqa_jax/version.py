"""The version, readable without importing jax."""

VERSION = "0.3.0"
