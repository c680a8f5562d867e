"""Disable Pillow's own size limit and warnings, so that `max_pixels` is the only limit."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import warnings

from PIL import Image

# Pillow warns about odd metadata and large sizes. Neither changes the pixels.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its errors go to stderr if logging is not set up


class _PillowLimit:
    """Raises Pillow's process-wide size limit while we decode; we check `max_pixels` once a size is known.

    An image that we cannot see before it is decoded (a PNG in an ICO) is refused by Pillow above twice `max_pixels`.
    """

    def __init__(self):
        self._lock, self._original, self._active = threading.Lock(), None, []

    @contextlib.contextmanager
    def set_to(self, max_pixels: float | None):
        with self._lock:
            if not self._active:
                self._original = Image.MAX_IMAGE_PIXELS
            self._active.append(math.inf if max_pixels is None else max_pixels)
            self._apply()
        try:
            yield
        finally:
            with self._lock:
                self._active.remove(math.inf if max_pixels is None else max_pixels)
                self._apply()

    def _apply(self):
        largest = max(self._active, default=self._original)
        Image.MAX_IMAGE_PIXELS = None if largest == math.inf else largest


pillow_limit = _PillowLimit()
