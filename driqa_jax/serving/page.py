"""The web page: files of the package, kept in memory, and security headers."""

import importlib.resources

from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from driqa_jax.reports.colormap import colour_stops

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
        content = (folder / name).read_text("utf-8").replace("STOPS", ", ".join(colour_stops()))
        answer = Response(content, media_type=kind, headers={"cache-control": "no-cache"})
        made.append(Route(path, answer, methods=["GET"]))  # a response is an ASGI application
    return made


class Guarded:
    """ASGI middleware: adds the security headers to every answer."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        await self._app(scope, receive, guarded)
