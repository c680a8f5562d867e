"""Pillow's own limit of size and its warnings, kept from our callers: `max_pixels` is the only limit."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import warnings

from PIL import Image

# Pillow warns about odd metadata and large sizes. Neither changes the pixels.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its errors go to stderr where nobody set up logging


class _PillowLimit:
    """Pillow's process-wide size limit, moved out of the way: `max_pixels` is checked by us as soon as a size is known.

    What we cannot see before it is decoded (a PNG in an ICO) Pillow refuses above twice `max_pixels`.
    """

    def __init__(self):
        self._lock, self._kept, self._active = threading.Lock(), None, []

    @contextlib.contextmanager
    def set_to(self, max_pixels: float | None):
        with self._lock:
            if not self._active:
                self._kept = Image.MAX_IMAGE_PIXELS
            self._active.append(math.inf if max_pixels is None else max_pixels)
            self._apply()
        try:
            yield
        finally:
            with self._lock:
                self._active.remove(math.inf if max_pixels is None else max_pixels)
                self._apply()

    def _apply(self):
        largest = max(self._active, default=self._kept)
        Image.MAX_IMAGE_PIXELS = None if largest == math.inf else largest


pillow_limit = _PillowLimit()
