"""XMP sidecars: the rating and the findings of an image where photo programs read them.

An existing sidecar is edited in place: the bytes of every other field stay as they are. The parser is expat, which
reports the position of each element; a document type declaration is refused, so no entity is ever expanded.

Ratings are `xmp:Rating`, from -1 (rejected) to 5. Findings are keywords below the root `ROOT`: `lr:hierarchicalSubject`
with the separator | (Lightroom, darktable), `digiKam:TagsList` with / (digiKam, immich), and their last words in
`dc:subject`. The namespace `OWN` holds what this package wrote, so that it can be told from what a person wrote.
"""

import contextlib
import os
import pathlib
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from driqa_jax.errors import UserError, reason
from driqa_jax.io import write_bytes
from driqa_jax.reports.xmp_packet import Element, Name, Splices, attribute, escaped, insert_child, parse, require

NAMINGS = ("lightroom", "darktable")
ROOT = "driqa"
LOWEST, HIGHEST = -1, 5
RDF, XMP = "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://ns.adobe.com/xap/1.0/"
DC = "http://purl.org/dc/elements/1.1/"
LIGHTROOM, DIGIKAM = "http://ns.adobe.com/lightroom/1.0/", "http://www.digikam.org/ns/1.0/"
OWN = "https://driqa-jax.invalid/ns/1.0/"
_EMPTY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    b' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n </rdf:RDF>\n</x:xmpmeta>\n'
)
_CONTAINERS = {(RDF, "Bag"), (RDF, "Seq"), (RDF, "Alt")}
_LARGEST = 2**25  # bytes; darktable's sidecars with thousands of edits have 2 MB
# Keyword lists: name, separator of the levels, container. Programs that find one list do not read the others.
_LISTS = (((LIGHTROOM, "hierarchicalSubject"), "|", "Bag"), ((DIGIKAM, "TagsList"), "/", "Seq"))
_RATING, _SUBJECT = (XMP, "Rating"), (DC, "subject")
# Names that no other namespace has, since some programs look for a name in every namespace.
_OUR_RATING, _RAISED_FROM = (OWN, "ourRating"), (OWN, "raisedFrom")
_MADE_FROM, _OUR_SUBJECT = (OWN, "madeFrom"), (OWN, "ourSubject")
_PREFIXES = {XMP: "xmp", DC: "dc", LIGHTROOM: "lr", DIGIKAM: "digiKam", OWN: "driqa"}


class Fields(NamedTuple):
    """What a sidecar says, with keywords as a tuple for each list.

    rating: -1 to 5, None if absent or not a number. person: the rating that a person or another program gave; None if
    there is none. It differs from `rating` if this package raised it. made_from: as given to `rate`, or "".
    """

    rating: int | None = None
    person: int | None = None
    made_from: str = ""
    hierarchical: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    subject: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """The result of `rate`: the sidecar, the rating before and after (None: none), and whether its bytes changed.

    refused: the rating asked for is lower than a person's, which was kept.
    """

    path: pathlib.Path
    before: int | None
    after: int | None
    changed: bool
    refused: bool


def sidecar_path(image: str | os.PathLike, naming: str) -> pathlib.Path:
    """`p.xmp` ("lightroom") or `p.jpg.xmp` ("darktable", also digiKam's) beside `p.jpg`."""
    path = pathlib.Path(image)
    if naming not in NAMINGS:
        raise ValueError(f"naming must be one of {', '.join(NAMINGS)}, got {naming!r}")
    return path.with_suffix(".xmp") if naming == "lightroom" else path.with_name(path.name + ".xmp")


def read_sidecar(path: str | os.PathLike) -> Fields:
    """The fields of a sidecar; empty fields if there is no file. Raises UserError naming a file that is no XMP."""
    data = _read(pathlib.Path(path))
    return Fields() if data is None else fields_of(data, str(path))


def fields_of(data: bytes, name: str = "xmp") -> Fields:
    """The fields of an XMP packet, for example one that an image embeds. Raises UserError naming it."""
    properties = _properties(_rdf(data, name))
    rating, ours, raised = (_rating(properties, key) for key in (_RATING, _OUR_RATING, _RAISED_FROM))
    person = raised if rating == ours else rating
    lists = [tuple(text for text, _ in _items(properties.get(key))) for key in (_LISTS[0][0], _LISTS[1][0], _SUBJECT)]
    return Fields(rating, person, _value(properties, _MADE_FROM) or "", *lists)


def rate(
    path: str | os.PathLike,
    rating: int,
    findings: Sequence[str] | Callable[[], Sequence[str]] | None = None,
    *,
    made_from: str = "",
    overwrite: bool = False,
    dry_run: bool = False,
    embedded: int | None = None,
) -> Outcome:
    """Write a rating and findings into a sidecar, atomically; the file is made if it does not exist.

    A rating of a person may be raised, but it is not lowered, and a person's reject is not taken back, unless
    `overwrite`. A rating of 0 means unrated. What counts as a person's is every rating that this function did not
    write; one that it raised is remembered.

    path: see `sidecar_path`. rating: -1 (rejected) to 5. findings: keywords below `ROOT`, which replace those of an
    earlier call, or a function that gives them, called only if the sidecar is not made from `made_from` yet; None keeps
    the keywords. made_from: identifies the model and the score. dry_run: write nothing; the outcome is the
    same. embedded: the rating in the image file, which counts if the sidecar has none.

    Raises ValueError for a rating out of range, UserError if the sidecar cannot be read or written, or is no XMP.
    """
    if isinstance(rating, bool) or not LOWEST <= rating <= HIGHEST:
        raise ValueError(f"a rating is from {LOWEST} to {HIGHEST}, got {rating}")
    path = pathlib.Path(path)
    if callable(findings):  # first: they take seconds, in which a person may edit the sidecar
        findings = None if made_from and read_sidecar(path).made_from == made_from else findings()
    data = _read(path)
    fields = Fields() if data is None else fields_of(data, str(path))
    current, person = (embedded, embedded) if fields.rating is None else (fields.rating, fields.person)
    refused = bool(person) and not overwrite and rating != person and (person == LOWEST or rating < person)
    after = person if refused else rating
    values = {_MADE_FROM: made_from} if made_from else {}
    if after != current:
        values[_RATING] = str(after)
    if after != person:
        values |= {_OUR_RATING: str(after), _RAISED_FROM: "" if overwrite or not person else str(person)}
    if made_from and fields.made_from == made_from:
        findings = None  # they follow from the model and the image
    before = data or _EMPTY
    result = edited(before, values, findings, str(path))
    if result != before and not dry_run:
        _write(os.path.realpath(path), result, None if data is None else os.stat(path).st_mode)
    return Outcome(path, current, after, result != before, refused)


def edited(data: bytes, values: Mapping[Name, str], findings: Sequence[str] | None, name: str = "xmp") -> bytes:
    """The packet with simple values by name and with the findings (None: as they are). Raises UserError."""
    rdf = _rdf(data, name)
    properties, splices = _properties(rdf), Splices(data)
    for key in (_SUBJECT, _OUR_SUBJECT, *(key for key, _, _ in _LISTS)):
        in_attribute = properties.get(key, (rdf, None))[1] is not None
        require(not in_attribute, name, f"has {key[1]} in an attribute, where XMP has no list; repair it")
        sound = findings is None or key not in properties or _is_list(properties[key])
        require(sound, name, f"has {key[1]} with other content than a list; repair it")
    missing = {
        key: value for key, value in values.items() if not _replace(splices, properties.get(key), key, value) and value
    }
    lists = [] if findings is None else _edit_keywords(splices, properties, findings, rdf)
    if missing or lists:
        insert_child(splices, rdf, _block(rdf, missing, lists))
    return splices.result()


def _read(path: pathlib.Path) -> bytes | None:
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({reason(error)})") from None
    require(len(data) <= _LARGEST, str(path), f"is larger than {_LARGEST // 2**20} MiB, so it is no sidecar")
    return data


def _write(path: str, data: bytes, mode: int | None) -> None:
    """Replace a file and keep its permissions, those in `mode`. Raises UserError for a read-only one."""
    require(mode is None or bool(mode & 0o222), path, "is read-only")
    write_bytes(path, data)
    if mode is not None:
        with contextlib.suppress(OSError):  # of a file of another user
            os.chmod(path, stat.S_IMODE(mode))


def _rdf(data: bytes, name: str) -> Element:
    for element in parse(data, name).walk():
        if element.name == (RDF, "RDF"):
            return element
    raise UserError(f"{name}: is no XMP, since it has no rdf:RDF element; repair it or move it away")


Property = tuple[Element, str | None]  # an element and None, or an rdf:Description and the value of its attribute
Properties = dict[Name, Property]


def _properties(rdf: Element) -> Properties:
    """The properties by name. XMP writes a simple one as an element or as an attribute of an rdf:Description."""
    found: Properties = {}
    for description in rdf.children:
        if description.name == (RDF, "Description"):
            for name, value in description.attributes.items():
                found.setdefault(name, (description, value))
            for child in description.children:
                found.setdefault(child.name, (child, None))
    return found


def _value(properties: Properties, name: Name) -> str | None:
    element, value = properties.get(name, (None, None))
    return value if value is not None or element is None else element.text.strip()


def _rating(properties: Properties, name: Name) -> int | None:
    try:
        rating = round(float(_value(properties, name) or ""))  # some programs write 3.0
    except (ValueError, OverflowError):
        return None
    return min(max(rating, LOWEST), HIGHEST)


def _container_of(found: Property) -> Element | None:
    """The rdf:Bag, Seq or Alt of an array."""
    return next((child for child in found[0].children if child.name in _CONTAINERS), None)


def _is_list(found: Property) -> bool:
    """Whether an element is an array or empty; in any other one, edits would replace what a person wrote."""
    return _container_of(found) is not None or not (found[0].children or found[0].text.strip())


def _items(found: Property | None) -> list[tuple[str, Element]]:
    """The texts of an array's items with their elements."""
    container = None if found is None else _container_of(found)
    items = [] if container is None else container.children
    return [(item.text.strip(), item) for item in items if item.name == (RDF, "li")]


def _replace(splices: Splices, found: Property | None, name: Name, value: str) -> bool:
    """Replace a simple value where it stands; False if the property is absent."""
    if found is None:
        return False
    element, text = found
    if text is None:
        splices.set_text(element, escaped(value))
    else:
        splices.replace(*attribute(splices.data, element, name), escaped(value))
    return True


def _edit_keywords(splices: Splices, properties, findings: Sequence[str], rdf: Element) -> list[str]:
    """Edit the lists that exist; returns the XML of those that do not."""
    words = list(dict.fromkeys(findings))
    before = {key: [text for text, _ in _items(properties.get(key))] for key in (_SUBJECT, *(row[0] for row in _LISTS))}
    ours_before = {text for text, _ in _items(properties.get(_OUR_SUBJECT))}
    theirs = [text for text in before[_SUBJECT] if text not in ours_before]
    added = [word for word in words if word not in theirs]
    made = []
    for key, separator, container in _LISTS:
        kept = [text for text in before[key] if text.split(separator)[0] != ROOT]
        if not before[key] and words:  # a program that reads this list alone must still find the person's keywords
            kept = _as_hierarchy(before, key, separator) or theirs
        made.append((key, container, [*kept, *(f"{ROOT}{separator}{word}" for word in words)]))
    made += [(_SUBJECT, "Bag", [*theirs, *added]), (_OUR_SUBJECT, "Bag", added)]
    new = []
    for key, container, items in made:
        if key in properties:
            _edit_list(splices, properties[key], items, container, rdf)
        elif items:
            new.append(_list(key, container, items, rdf))
    return new


def _as_hierarchy(before, key, separator: str) -> list[str]:
    """The person's keywords of the other hierarchical list, with this one's separator."""
    for other, its_separator, _ in _LISTS:
        if other != key and before[other]:
            return [t.replace(its_separator, separator) for t in before[other] if t.split(its_separator)[0] != ROOT]
    return []


def _edit_list(splices: Splices, found: Property, items: Sequence[str], container: str, rdf: Element) -> None:
    """Remove the items that are not in `items` and append those that are not there; the others keep their bytes."""
    there = _items(found)
    absent = [item for item in items if item not in {text for text, _ in there}]
    for text, item in there:
        if text not in items:
            splices.remove(item)
    if holder := _container_of(found):
        for item in absent:
            insert_child(splices, holder, f"<{rdf.prefix}li>{escaped(item)}</{rdf.prefix}li>")
    elif absent:
        splices.set_text(found[0], _container(container, absent, rdf))


def _container(container: str, items: Sequence[str], rdf: Element) -> str:
    inner = "".join(f"\n     <{rdf.prefix}li>{escaped(item)}</{rdf.prefix}li>" for item in items)
    return f"\n    <{rdf.prefix}{container}>{inner}\n    </{rdf.prefix}{container}>\n   "


def _list(key: Name, container: str, items: Sequence[str], rdf: Element) -> str:
    name = f"{_PREFIXES[key[0]]}:{key[1]}"
    return f"<{name}>{_container(container, items, rdf)}</{name}>"


def _block(rdf: Element, simple: Mapping[Name, str], lists: Sequence[str]) -> str:
    """A new rdf:Description with its own namespaces. All of a packet have the same rdf:about."""
    about = next((d.attributes[RDF, "about"] for d in rdf.children if (RDF, "about") in d.attributes), "")
    used = {prefix: uri for uri, prefix in _PREFIXES.items() if any(f"<{prefix}:" in text for text in lists)}
    used |= {_PREFIXES[key[0]]: key[0] for key in simple}
    parts = [f'{rdf.prefix}about="{escaped(about)}"']
    parts += [f'xmlns:{prefix}="{uri}"' for prefix, uri in sorted(used.items())]
    parts += [f'{_PREFIXES[key[0]]}:{key[1]}="{escaped(value)}"' for key, value in simple.items()]
    start = f"<{rdf.prefix}Description " + "\n    ".join(parts)
    if not lists:
        return start + "/>"
    return start + ">" + "".join(f"\n   {each}" for each in lists) + f"\n  </{rdf.prefix}Description>"
