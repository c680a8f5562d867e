"""Sidecars for scored images: bands become ratings, named degradations become keywords."""

from __future__ import annotations

import functools
import mmap
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from PIL import Image

from driqa_jax.data import raw
from driqa_jax.data.decode import EXTENSIONS, FORMATS, MAX_PIXELS, pillow_limit, register_heif
from driqa_jax.errors import UserError, reason
from driqa_jax.reports.meaning import Meaning
from driqa_jax.reports.xmp import Outcome, fields_of, rate, sidecar_path

if TYPE_CHECKING:
    from driqa_jax.inference.scorer import Result, Scorer
    from driqa_jax.reports.score_file import WrittenRow

_WINDOWS_RATING = 0x4746  # the EXIF tag that Windows and some cameras write
_END_OF_PACKET = b"</x:xmpmeta>"


class Sidecars:
    """Writes the rating of each row into the sidecars of its photo; a failure is reported and the next row follows.

    naming: see `driqa_jax.reports.xmp.sidecar_path`. meaning: its bands are the ratings of `write`; None: only `rate`
    is used. scorer: explains images that have no sidecar of this result yet, for the keywords, and reads them again.
    say: receives one line for each failure, each kept rating, and in a dry run each change. findings: whether to write
    keywords. options: `overwrite` and `dry_run` of `driqa_jax.reports.xmp.rate`. Raises UserError if the bands are no
    ratings.
    """

    def __init__(
        self,
        naming: str,
        meaning: Meaning | None,
        scorer: Scorer,
        say: Callable[[str], None],
        findings: bool = True,
        **options,
    ):
        self._naming, self._meaning, self._scorer, self._say = naming, meaning, scorer, say
        self._ratings = meaning.bands.require_ratings() if meaning and meaning.bands else {}
        self._findings, self._options = findings, options
        self.changed = self.unchanged = self.refused = self.failed = 0

    def write(self, row: Result | WrittenRow) -> None:
        """Rate one image; a row without a score has no rating."""
        if row.score is None or (band := self._meaning.band(row.score)) is None:
            return
        options = {}
        if self._findings:
            options["made_from"] = f"{(self._scorer.sha256 or '')[:12]} {self._scorer.effort} {row.score:.2f}"
            explain = functools.cache(lambda: self._scorer.explain(row.path, restore=False).named())
            options["findings"] = lambda: [finding.label for finding in explain()]
        self.rate(row.path, self._ratings[band], **options)

    def rate(self, image: str, rating: int, **options) -> None:
        """Rate one image, from -1 (rejected) to 5; `options` as for `driqa_jax.reports.xmp.rate`."""
        try:
            embedded = embedded_rating(image)
            for path in sidecars_of(image, self._naming):
                self._count(rate(path, rating, embedded=embedded, **self._options, **options), rating)
        except Exception as error:  # one bad file does not stop the others
            self.failed += 1
            self._say(str(error) if isinstance(error, UserError) else f"{image}: {reason(error, image)}")

    def summary(self) -> str:
        """One line of counts."""
        first = (self.changed, f"sidecars {'to write' if self._options.get('dry_run') else 'written'}")
        others = (
            (self.unchanged, "unchanged"),
            (self.refused, "higher ratings of a person kept"),
            (self.failed, "failed"),
        )
        return ", ".join(f"{count} {what}" for count, what in (first, *(each for each in others if each[0])))

    def _count(self, outcome: Outcome, asked: int) -> None:
        self.changed += outcome.changed
        self.unchanged += not outcome.changed
        self.refused += outcome.refused
        if outcome.refused:
            self._say(f"{outcome.path}: the rating {outcome.before} is kept, {asked} would be lower; see --overwrite")
        elif self._options.get("dry_run") and outcome.changed:
            before = "none" if outcome.before is None else outcome.before
            self._say(f"{outcome.path}: would be written, rating {before} -> {outcome.after}")


def sidecars_of(image: str | os.PathLike, naming: str) -> list[os.PathLike]:
    """The sidecars of a photo: its own, and in darktable's naming that of the raw photo of the same name beside it.

    Raises UserError if Lightroom's naming gives one sidecar to several images that are no pair of raw photo and JPEG.
    """
    folder, name = os.path.split(os.fspath(image))
    try:
        names = _by_stem(folder).get(os.path.splitext(name)[0], ())
    except OSError as error:
        raise UserError(f"{folder or '.'}: cannot be listed ({error.strerror or error})") from None
    raws = [other for other in names if raw.extension(other) in raw.EXTENSIONS and other != name]
    own = sidecar_path(image, naming)
    if naming == "darktable":
        paired = raws if raw.extension(name) in raw.COMPANIONS else []
        return [own, *(sidecar_path(os.path.join(folder, other), naming) for other in paired)]
    others = [other for other in names if raw.extension(other) in EXTENSIONS and other != name]
    if others and not (raw.extension(name) in raw.EXTENSIONS and len(others) == 1):
        raise UserError(f"{own}: would be the sidecar of {name} and of {others[0]}; use the naming darktable")
    return [own]


@functools.lru_cache(maxsize=4)
def _by_stem(folder: str) -> dict[str, tuple[str, ...]]:
    """The names in a folder by their stem, sorted."""
    names: dict[str, tuple[str, ...]] = {}
    for name in sorted(os.listdir(folder or ".")):
        stem = os.path.splitext(name)[0]
        names[stem] = (*names.get(stem, ()), name)
    return names


def embedded_rating(image: str | os.PathLike) -> int | None:
    """The rating inside an image file (XMP, else EXIF); None if there is none to be found."""
    try:
        if raw.extension(os.fspath(image)) in raw.EXTENSIONS and (found := _packet_rating(image)) is not None:
            return found
        formats = (*FORMATS, "HEIF") if register_heif() else FORMATS
        with pillow_limit.set_to(MAX_PIXELS), Image.open(image, formats=formats) as opened:
            packet = opened.info.get("xmp") or opened.info.get("XML:com.adobe.xmp")  # the latter in PNG, as text
            packet = packet.encode() if isinstance(packet, str) else packet
            rating = fields_of(packet.rstrip(b"\0")).rating if isinstance(packet, bytes) else None
            exif = opened.getexif().get(_WINDOWS_RATING)
    except Exception:  # damaged metadata, and raw photos without XMP; scoring reports unreadable images
        return None
    return rating if rating is not None or not isinstance(exif, int) else min(max(exif, 0), 5)


def _packet_rating(image: str | os.PathLike) -> int | None:
    """The rating in the first XMP packet of a file, wherever its format holds it."""
    with open(image, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start, end = data.find(b"<x:xmpmeta"), data.find(_END_OF_PACKET)
        return fields_of(data[start : end + len(_END_OF_PACKET)]).rating if 0 <= start < end else None
