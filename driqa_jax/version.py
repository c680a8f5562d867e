"""The version, readable without importing jax."""

VERSION = "0.1.0"
