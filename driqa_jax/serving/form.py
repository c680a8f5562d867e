"""The pictures in the body of a request: one as it is, or several in a multipart form. Pure functions of bytes."""

from __future__ import annotations

import dataclasses

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from driqa_jax.serving.limits import Refused

_LONGEST_NAME = 255
_TAKEN = "send one picture as image/* or application/octet-stream, or several as files of a multipart/form-data"


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture as it came: what the client calls it (never a path of ours), and its encoded bytes."""

    name: str
    data: bytes


def pictures_in(body: bytes, content_type: str, most: int) -> list[Picture]:
    """The pictures of a request's body, at least one.

    Raises Refused: 415 for another content type, 400 for a form that is damaged or holds no file, 413 for more
    than `most` files.
    """
    check_content_type(content_type)
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        return [Picture("picture", body)]
    if not options.get(b"boundary"):
        raise Refused(400, "the content type of the form names no boundary")
    form = _Form(most)
    try:
        parser = MultipartParser(options[b"boundary"], form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refused(400, f"the form is damaged: {clean(str(error))}") from None
    if not form.ended:
        raise Refused(400, "the form is cut off: its last boundary is missing")
    if not form.pictures:
        raise Refused(400, "the form holds no picture")
    return form.pictures


def check_content_type(content_type: str) -> None:
    """Raises Refused (415) for what cannot hold pictures; nothing said counts as application/octet-stream."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind and not kind.startswith("image/") and kind not in ("application/octet-stream", "multipart/form-data"):
        raise Refused(415, f"the content type {clean(kind)} holds no pictures: {_TAKEN}")


def clean(name: str) -> str:
    """A client's text, fit to be sent back: one line, whole characters, not endless."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return shown if len(shown) <= _LONGEST_NAME else shown[: _LONGEST_NAME - 1] + "…"


class _Form:
    """Collects the files of a form as the parser meets them."""

    def __init__(self, most: int):
        self.pictures: list[Picture] = []
        self.ended = False
        self._most = most
        self._header, self._value = bytearray(), bytearray()
        self._name: bytes | None = None
        self._data = bytearray()

    def callbacks(self) -> dict:
        events = ("part_begin", "header_field", "header_value", "header_end", "headers_finished", "part_data")
        return {f"on_{event}": getattr(self, event) for event in (*events, "part_end", "end")}

    def part_begin(self) -> None:
        if len(self.pictures) == self._most:
            raise Refused(413, f"more than {self._most} pictures in one request")
        self._name, self._data = None, bytearray()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._name = options.get(b"filename")
        self._header, self._value = bytearray(), bytearray()

    def headers_finished(self) -> None:
        if self._name is None:
            raise Refused(400, "a part of the form has no file name: every part must be a picture")

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += memoryview(data)[start:end]

    def part_end(self) -> None:
        name = clean(self._name.decode("utf-8", "replace")) or "picture"
        self.pictures.append(Picture(name, bytes(self._data)))

    def end(self) -> None:
        self.ended = True
