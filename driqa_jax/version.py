"""The version. Reading it does not import JAX."""

VERSION = "0.6.0"
