"""Identify a file by its first bytes, so that an error names the actual format and what to do."""

import os

from driqa_jax.errors import UnreadableImage

HEAD = 4096  # bytes of a file that these functions inspect
_RAW_PHOTO = (
    "a raw photo{}: sensor data, not yet an image; develop it first and score the JPEG, PNG or TIFF, or "
    "pip install 'driqa_jax[raw]'"
)
PNG = b"\x89PNG\r\n\x1a\n"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF_BRANDS = {b"avif", b"avis"}

_CONVERT = "{}, which is not supported; convert it to PNG or JPEG"
_EXPORT = "{}, which is not a photo file; export the picture to PNG or JPEG"
_VIDEO = "a video ({}); extract a frame as PNG or JPEG"
_DOWNLOAD = "{}, not a picture; the download or the link went wrong"

# Formats that we decode: (offset, bytes, name in errors).
_DECODED = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, PNG, "PNG"),
    *((0, start, "TIFF") for start in TIFF),
    (8, b"WEBP", "WebP"),
    (0, b"GIF8", "GIF"),
    *((14, size.to_bytes(4, "little"), "BMP") for size in (12, 16, 40, 52, 56, 64, 108, 124)),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\1\0", "ICO"),
    *((0, b"P%d%c" % (number, space), "PNM") for number in range(1, 7) for space in b"\n\r\t "),
    (0, b"Pf\n", "PFM"),
)
# Formats that we refuse: reason -> (offset, bytes, name in the reason).
# fmt: off
_RAW_PHOTOS = (
    (8, b"CR\2", "Canon CR2"), (6, b"HEAPCCDR", "Canon CRW"), (0, b"FUJIFILMCCD-RAW", "Fujifilm RAF"),
    (0, b"IIRO", "Olympus ORF"), (0, b"IIRS", "Olympus ORF"), (0, b"MMOR", "Olympus ORF"),
    (0, b"IIU\0", "Panasonic RW2"), (0, b"FOVb", "Sigma X3F"), (0, b"\0MRM", "Minolta MRW"),
    (8, b"IIII", "Phase One IIQ"), (8, b"MMMM", "Phase One IIQ"),
)
_REFUSED = {
    "a PNG in Apple's iOS form ({}), which is not supported; convert it to plain PNG": ((4, b"CgBI", "CgBI"),),
    _CONVERT: (
        (0, b"\xff\x0a", "a JPEG XL picture"), (0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
        (0, b"II\xbc", "a JPEG XR picture"), (0, b"\x76\x2f\x31\x01", "an OpenEXR picture"),
        (0, b"#?RADIANCE", "a Radiance HDR picture"), (0, b"#?RGBE", "a Radiance HDR picture"),
        (0, b"DDS \x7c\0\0\0", "a DDS texture"), (0, b"qoif", "a QOI picture"), (0, b"BPG\xfb", "a BPG picture"),
        (0, b"AT&TFORM", "a DjVu document"), (0, b"\x8aMNG", "an MNG animation"), (0, b"\x8bJNG", "a JNG picture"),
        (0, b"SIMPLE  =", "a FITS file"), (128, b"DICM", "a DICOM file"), (0, b"icns", "an ICNS icon"),
        (0, b"\0\0\2\0\0\0\0\0", "a TGA picture"), (0, b"\0\0\x0a\0\0\0\0\0", "a TGA picture"),
        (0, b"\0\0\2\0", "a Windows cursor"), (0, b"\xd7\xcd\xc6\x9a", "a WMF drawing"),
        (0, b"P7\n", "a PAM picture"), (0, b"PF\n", "a PFM picture of color float samples"),
    ),
    _EXPORT: (
        (0, b"8BPS", "a Photoshop file (PSD)"), (0, b"gimp xcf", "a GIMP file (XCF)"), (0, b"%PDF-", "a PDF document"),
        (0, b"%!PS", "a PostScript file"), (0, b"\xc5\xd0\xd3\xc6", "an EPS file"),
        (0, b"PK\3\4", "a ZIP archive or an office document"), (0, b"\x1f\x8b", "a gzip archive"),
        (0, b"Rar!\x1a\7", "a RAR archive"), (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (0, b"\0\x05\x16\x07", "an AppleDouble file (macOS metadata of another file)"),
    ),
    _VIDEO: (
        (8, b"AVI ", "AVI"), (0, b"\x1aE\xdf\xa3", "Matroska or WebM"), (0, b"FLV\1", "FLV"),
        (0, b"\0\0\1\xba", "MPEG"), (0, b"\0\0\1\xb3", "MPEG"),
    ),
    "a Git LFS pointer, not the picture; run git lfs pull": ((0, b"version https://git-lfs", ""),),
}
# fmt: on


class RawPhoto(UnreadableImage):
    """A raw photo, which needs the extra `raw`; `camera` is its make or format in parentheses, or ""."""

    def __init__(self, path: str | os.PathLike, camera: str = ""):
        self.camera = f" ({camera})" if camera else ""
        super().__init__(path, _RAW_PHOTO.format(self.camera))

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.path, self.camera[2:-1])


def raw_format(head: bytes) -> str | None:
    """The raw format that `head` begins, such as "Canon CR2", or None. Formats on the basis of TIFF need its tags."""
    if b"crx " in _brands(head):
        return "Canon CR3"
    return next((kind for offset, start, kind in _RAW_PHOTOS if head[offset : offset + len(start)] == start), None)


def decoded_format(head: bytes) -> str | None:
    """The name of the decodable format that `head` begins, such as "JPEG", or None."""
    brands = _brands(head)
    # If the major brand of a HEIC is the container's ("mif1"), the codec's follows.
    if head[8:12] != b"avif" and brands & HEIF_BRANDS:
        return "HEIC"
    if brands & _AVIF_BRANDS:
        return "AVIF"
    for offset, start, name in _DECODED:
        if head[offset : offset + len(start)] == start and _confirmed(name, head):
            return name
    return None


def _confirmed(name: str, head: bytes) -> bool:
    """Whether a short signature, which a text may share, really belongs to an image."""
    if name == "PNM":
        return head[2:].lstrip()[:1] in (b"#", *(b"%d" % digit for digit in range(10)))
    return head.startswith({"BMP": b"BM", "WebP": b"RIFF"}.get(name, b""))


def refusal(head: bytes) -> str | None:
    """Why a file that begins with `head` is refused, if it has a known format that we do not decode; else None."""
    png = head[8:] if head.startswith(PNG) else b""
    for reason, formats in _REFUSED.items():
        for offset, start, name in formats:
            # CgBI is the first chunk of a PNG.
            if (png if start == b"CgBI" else head)[offset : offset + len(start)] == start:
                return reason.format(name)
    if head[4:8] == b"ftyp":
        return _media_refusal(_brands(head))
    return _text_refusal(head)


def _brands(head: bytes) -> set[bytes]:
    if head[4:8] != b"ftyp":
        return set()
    end = min(max(int.from_bytes(head[:4], "big"), 16), 64)
    return {head[i : i + 4] for i in range(8, end, 4)} - {b""}


def _media_refusal(brands: set[bytes]) -> str | None:
    if brands & (HEIF_BRANDS | _AVIF_BRANDS):
        return None
    if brands & {b"mif1", b"msf1", b"miaf"}:
        return _CONVERT.format("a HEIF picture of another codec than HEVC and AV1")
    return _VIDEO.format("MP4 or QuickTime")


def _text_refusal(head: bytes) -> str | None:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return _DOWNLOAD.format("a web page (HTML)")
    if start.startswith((b"<svg", b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in start:
        return _EXPORT.format("an SVG drawing")
    if start.startswith(b"<?xml"):
        return _DOWNLOAD.format("an XML document")
    return None
