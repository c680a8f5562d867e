"""`python -m driqa_jax` is `driqa`."""

from driqa_jax.cli.main import entry

entry()
