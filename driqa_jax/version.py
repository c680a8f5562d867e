"""The version, readable without importing jax."""

VERSION = "0.2.0"
