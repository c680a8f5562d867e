"""`python -m driqa_jax` is `driqa`."""

import sys

from driqa_jax.cli.main import main

sys.exit(main())
