"""The kinds of protocol: what `driqa protocol` does with a configuration, by its key `kind`."""

from collections.abc import Callable

import ml_collections

from driqa_jax.errors import UserError
from driqa_jax.protocol.runner import run_protocol


def _restored(config: ml_collections.ConfigDict, workdir: str) -> int:
    from driqa_jax.protocol import restored

    return restored.run(config, workdir)


# (config, workdir) -> exit code: 0 all is done, 1 something failed, 130 or 143 stopped by a signal.
KINDS: dict[str, Callable[[ml_collections.ConfigDict, str], int]] = {"training": run_protocol, "restored": _restored}


def run(config: ml_collections.ConfigDict, workdir: str) -> int:
    """Carry a protocol out, from the start or from where it was stopped; returns the exit code.

    Raises UserError for a kind that is none, and as the kind does.
    """
    kind = config.get("kind")
    if kind not in KINDS:
        raise UserError(f"config.kind is {kind!r}; the kinds of protocol are {', '.join(KINDS)}")
    return KINDS[kind](config, workdir)
