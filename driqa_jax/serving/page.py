"""The web page: files of the package, kept in memory, and security headers."""

import importlib.resources

from starlette.responses import Response
from starlette.routing import Route

from driqa_jax.reports.colormap import color_stops

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
# Dropped images are blob: URLs; images of an explanation are data: URLs.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]


def routes() -> list[Route]:
    """The page and the files that it loads. STOPS in a file is replaced by the color bar of the quality maps."""
    folder = importlib.resources.files("driqa_jax.serving") / "page"
    made = []
    for path, (name, kind) in FILES.items():
        content = (folder / name).read_text("utf-8").replace("STOPS", ", ".join(color_stops()))
        answer = Response(content, media_type=kind, headers={"cache-control": "no-cache"})
        made.append(Route(path, answer, methods=["GET"]))  # a response is an ASGI application
    return made
