"""The elements of an XML packet with their byte positions, and edits at these positions."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from xml.parsers import expat

from driqa_jax.errors import UserError

_SEPARATOR = "\x1f"  # cannot occur in XML
_DEEPEST = 100
_ATTRIBUTE = rb"""([^\s=<>/]+)\s*=\s*("[^"]*"|'[^']*')"""
_START = re.compile(rb"<[^\s/>]+(?:\s+" + _ATTRIBUTE + rb")*\s*/?>")
# What XML forbids, and the control characters that it allows.
_CONTROL = re.compile("[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Name = tuple[str, str]  # namespace, local name


@dataclasses.dataclass
class Element:
    """One element: the tag begins at `start`, the content at `inner` and ends at `close`; `end` is after the element.

    name: namespace and local name. prefix: of its name, with the colon, or "". attributes: values by name. prefixes:
    of the attributes' names as written. text: the characters directly inside. `empty`: written as <a/>.
    """

    name: Name
    prefix: str
    start: int
    attributes: dict[Name, str]
    prefixes: dict[Name, str]
    inner: int = 0
    close: int = 0
    end: int = 0
    empty: bool = False
    text: str = ""
    children: list[Element] = dataclasses.field(default_factory=list)

    def walk(self) -> Iterator[Element]:
        """This element and all below it, in document order."""
        yield self
        for child in self.children:
            yield from child.walk()


def require(condition: bool, name: str, problem: str) -> None:
    """Raises UserError with the name of the file and the problem unless the condition holds."""
    if not condition:
        raise UserError(f"{name}: {problem}")


def parse(data: bytes, name: str) -> Element:
    """The root element of an XML document in UTF-8 or another extension of ASCII.

    Raises UserError naming the file: not well-formed, nested more than 100 deep, UTF-16, or with a document type
    declaration, which no sidecar needs and through which entities are declared.
    """
    require(b"\0" not in data[:64], name, "is in UTF-16 or is binary; save the sidecar as UTF-8")
    parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
    parser.namespace_prefixes = parser.buffer_text = True
    builder = _Builder(data, name, parser)
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the last two: encodings that are none
        raise UserError(f"{name}: is no well-formed XML ({error}); repair it or move it away") from None
    return builder.root


class _Builder:
    """Expat's handlers. They keep positions, which expat gives in bytes of the input."""

    def __init__(self, data: bytes, name: str, parser: expat.XMLParserType):
        self._data, self._name, self._parser = data, name, parser
        self._open: list[Element] = []
        self.root: Element
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = self._characters, self._doctype

    def _doctype(self, *unused) -> None:
        raise UserError(f"{self._name}: has a document type declaration, which is refused; no sidecar needs one")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        require(len(self._open) < _DEEPEST, self._name, f"is nested more than {_DEEPEST} elements deep")
        full, prefix = _split(name)
        split = {_split(key): value for key, value in attributes.items()}
        values = {key: value for (key, _), value in split.items()}
        element = Element(full, prefix, self._parser.CurrentByteIndex, values, dict(split.keys()))
        tag = _START.match(self._data, element.start)
        require(tag is not None, self._name, f"has a tag at byte {element.start} that cannot be edited")
        element.inner = tag.end()
        element.empty = self._data[element.inner - 2 : element.inner] == b"/>"
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def _end(self, name: str) -> None:
        element = self._open.pop()
        if element.empty:
            element.close = element.end = element.inner
        else:
            element.close = self._parser.CurrentByteIndex
            element.end = self._data.index(b">", element.close) + 1

    def _characters(self, text: str) -> None:
        self._open[-1].text += text


def _split(name: str) -> tuple[Name, str]:
    """(namespace, local name) and the prefix with its colon, of expat's combined name."""
    parts = name.split(_SEPARATOR)
    if len(parts) == 1:
        return ("", parts[0]), ""
    return (parts[0], parts[1]), f"{parts[2]}:" if len(parts) == 3 else ""


def attribute(data: bytes, element: Element, name: Name) -> tuple[int, int]:
    """Where the value of an attribute begins and ends, without its quotes."""
    wanted = (element.prefixes[name] + name[1]).encode()
    for found in re.finditer(rb"\s" + _ATTRIBUTE, data[element.start : element.inner]):
        if found[1] == wanted:
            return element.start + found.start(2) + 1, element.start + found.end(2) - 1
    raise KeyError(name)


def escaped(text: str) -> str:
    """Text for an element or an attribute in ASCII, so that it fits every encoding; control characters are dropped."""
    clean = _CONTROL.sub("", text)
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&apos;")):
        clean = clean.replace(character, entity)
    return clean.encode("ascii", "xmlcharrefreplace").decode()


class Splices:
    """Edits of `data` at positions of the original; `result` applies them."""

    def __init__(self, data: bytes):
        self.data = data
        self._edits: list[tuple[int, int, bytes]] = []

    def replace(self, start: int, end: int, text: str) -> None:
        """Replace the bytes from `start` to `end`; equal positions insert, in the order of the calls."""
        self._edits.append((start, end, text.encode()))

    def set_text(self, element: Element, xml: str) -> None:
        """Replace the whole content of an element by `xml`."""
        if not element.empty:
            self.replace(element.inner, element.close, xml)
            return
        tag = self.data[element.start : element.inner]  # <a/> becomes <a>xml</a>
        name = re.match(rb"<([^\s/>]+)", tag)[1].decode()
        self.replace(element.start + len(tag[:-2].rstrip()), element.inner, f">{xml}</{name}>")

    def remove(self, element: Element) -> None:
        """Remove an element and the white space before it."""
        start = element.start
        while self.data[start - 1 : start].isspace():
            start -= 1
        self.replace(start, element.end, "")

    def result(self) -> bytes:
        """The edited bytes."""
        parts, at = [], 0
        for start, end, text in sorted(self._edits, key=lambda edit: edit[:2]):  # stable
            parts += [self.data[at:start], text]
            at = end
        return b"".join([*parts, self.data[at:]])


def insert_child(splices: Splices, element: Element, xml: str) -> None:
    """Append a child with the white space that is before the last child."""
    if element.empty:
        splices.set_text(element, xml)
        return
    position, indent = element.inner, "\n  "
    if element.children:
        *others, last = element.children
        position = last.end
        before = splices.data[others[-1].end if others else element.inner : last.start].decode(errors="replace")
        indent = before if not before.strip() else "\n"
    splices.replace(position, position, indent + xml)
