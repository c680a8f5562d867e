"""Facts of one photo that need no model: when and with which camera it was taken, what it shows, what is clipped."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import os
from typing import Any

import numpy as np
from PIL import Image

from driqa_jax.data.decode import MAX_PIXELS, decode, pillow_limit

THUMBNAIL = 48
WHITE, BLACK = 250, 5  # gray levels from which a pixel counts as clipped
_SIDE = 1600  # px of the long side at which pixels are measured; larger photos are averaged down by whole factors
_STEEP = 99.0  # percentile of the steps between neighboring pixels; a photo in focus has some steep edges
_EXIF = 0x8769
_TIMES = ((0x9003, 0x9291), (0x9004, 0x9292))  # original and digitized time, each with its fraction of a second
_CAMERA = (0x010F, 0x0110)  # make, model
_SERIAL = 0xA431


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
    """Facts of one photo.

    thumbnail: (THUMBNAIL, THUMBNAIL) uint8, the whole photo in gray.
    taken: seconds since 1970 on the camera's clock, or None without EXIF.
    camera: make, model and serial number, as far as the EXIF has them.
    highlights, shadows: shares of white and of black pixels, in [0, 1].
    sharpness: the steepest steps between neighboring pixels, divided by the contrast; only comparable between photos
      of one scene.
    """

    thumbnail: np.ndarray
    taken: float | None
    camera: str
    highlights: float
    shadows: float
    sharpness: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values; the thumbnail is in base64."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**values, "thumbnail": base64.b64encode(self.thumbnail.tobytes()).decode()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Facts:
        """The inverse of `to_dict`."""
        pixels = np.frombuffer(base64.b64decode(values["thumbnail"]), np.uint8)
        return cls(**{**values, "thumbnail": pixels.reshape(THUMBNAIL, THUMBNAIL)})


def measure(path: str | os.PathLike, max_pixels: float = MAX_PIXELS) -> Facts:
    """The facts of a photo file. Raises UnreadableImage as `decode` does."""

    def pixels(image: Image.Image) -> Facts:
        taken, camera = _exif(path, max_pixels)  # here, since Pillow opens no HEIC before `decode` has
        gray = image.convert("L").reduce(max(-(-max(image.size) // _SIDE), 1))
        levels = np.asarray(gray)
        counts = gray.histogram()
        return Facts(
            thumbnail=np.asarray(gray.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)),
            taken=taken,
            camera=camera,
            highlights=round(sum(counts[WHITE:]) / levels.size, 5),
            shadows=round(sum(counts[: BLACK + 1]) / levels.size, 5),
            sharpness=round(_sharpness(gray), 4),
        )

    return decode(path, max_pixels, use=pixels)


def _sharpness(gray: Image.Image) -> float:
    # Half the size: single-pixel noise would count as edges.
    levels = np.asarray(gray.reduce(2), np.float32)
    contrast = float(levels.std())
    if min(levels.shape) < 2 or contrast < 1:
        return 0.0
    down, right = np.abs(np.diff(levels, axis=0)), np.abs(np.diff(levels, axis=1))
    return float(np.percentile(np.concatenate([down.ravel(), right.ravel()]), _STEEP)) / contrast


def _exif(path: str | os.PathLike, max_pixels: float) -> tuple[float | None, str]:
    """Time and camera; damaged EXIF counts as none, because the pixels may be intact."""
    try:
        with pillow_limit.set_to(max_pixels), Image.open(path) as image:
            if image.format == "PNG" and "exif" not in image.info:
                return None, ""  # Pillow would decode the whole image to look for it
            exif = image.getexif()
            more = exif.get_ifd(_EXIF)
        texts = [str(exif.get(tag, "")) for tag in _CAMERA] + [str(more.get(_SERIAL, ""))]
        camera = " ".join(text.strip("\0 ") for text in texts).strip()
        return next(filter(None, (_seconds(more.get(t), more.get(f)) for t, f in _TIMES)), None), camera
    except Exception:  # Pillow raises many kinds of exceptions on damaged metadata
        return None, ""


def _seconds(time: Any, fraction: Any) -> float | None:
    try:
        parsed = datetime.datetime.strptime(str(time).strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    digits = str(fraction or "").strip("\0 ")
    # The camera's clock has no zone; any fixed zone keeps the differences.
    whole = parsed.replace(tzinfo=datetime.UTC).timestamp()
    return whole + (float(f"0.{digits}") if digits.isdecimal() else 0.0)
