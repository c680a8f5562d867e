"""The version, readable without importing jax."""

VERSION = "0.4.0"
