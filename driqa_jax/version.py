"""The version, readable without importing jax."""

VERSION = "0.5.0"
