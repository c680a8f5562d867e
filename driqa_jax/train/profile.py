"""A profiler's trace of some steps, for Perfetto, XProf or TensorBoard."""

import pathlib

import jax

from driqa_jax.errors import UserError


class Profile:
    """Traces the steps from `span[0]` on, `span[1]` of them, into `folder`; () traces none.

    Raises:
      UserError: `span` is neither empty nor two whole numbers, the second at least 1.
    """

    def __init__(self, folder: pathlib.Path, span: tuple[int, ...]):
        if span and (len(span) != 2 or any(type(number) is not int for number in span) or span[1] < 1 or span[0] < 0):
            raise UserError(f"config.profile={span!r}: write (first step, how many), as (10, 3), or ()")
        self._folder, self._span, self._active = folder, span, False

    def before(self, step: int, state) -> None:
        """Call before step number `step` (from 0) is sent off; `state` is what it starts from."""
        if not self._span:
            return
        if self._active and step >= sum(self._span):
            self.stop(state)
        if step == self._span[0]:
            jax.block_until_ready(state)  # what was sent off before is not part of it
            jax.profiler.start_trace(str(self._folder))
            self._active = True

    def stop(self, state) -> None:
        """End a trace that is under way, its steps done."""
        if self._active:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
            self._active = False
