"""The ASGI application: routes, error answers, middleware, and the web page with its security headers."""

import asyncio
import contextlib
import functools
import importlib.resources
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from driqa_jax.reports.colormap import EVEN_COLOR, color_stops
from driqa_jax.serving import answers
from driqa_jax.serving.limits import Limits
from driqa_jax.serving.metrics import Metrics, Observed
from driqa_jax.serving.requests import Describe, check_content_type, entries_of, read_body, uploads_in
from driqa_jax.serving.worker import FairQueue, HeldBytes, Kind, Worker, overloaded
from driqa_jax.version import VERSION

# A quarter of the pixels of `driqa explain`: enough for the page, and the restorer needs a quarter of the time.
SHOWN_PIXELS = 400_000
_ABOUT = """No-reference image quality assessment: a quality score from 0 to 100 for each image.

Send one image as the body, or several as the files of a `multipart/form-data`. The answer has one entry per image, in
order: a score, or the reason why there is none. An overloaded server answers 429 with `Retry-After`."""
_PROBLEMS = {
    400: "a damaged form",
    408: "the body arrived too slowly",
    413: "too many bytes, images or pixels",
    415: "a content type without images",
    422: "no image could be read; the body is as for 200 if the request itself was valid",
    429: "overloaded; try again after Retry-After seconds",
    503: "the server is starting",
    504: "not finished in time",
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILES = {"type": "object", "properties": {"image": {"type": "array", "items": _BINARY["schema"]}}}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"image/*": _BINARY, "application/octet-stream": _BINARY, "multipart/form-data": {"schema": _FILES}},
    }
}
# The web page: files of the package, kept in memory.
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


class Service:
    """One `driqa_jax.Scorer`, one queue, and the state that all requests share."""

    def __init__(self, scorer: Any, limits: Limits, shown_pixels: float, on_failure: Callable[[], None]):
        self.limits = limits
        self.queue = FairQueue(limits.queue)
        self.held = HeldBytes(limits.held_bytes)
        self.worker = Worker(scorer, self.queue, shown_pixels, on_failure)
        self.model = {"name": scorer.name, "sha256": scorer.sha256}
        self.metrics = Metrics(
            {"version": VERSION, "model": scorer.name, "sha256": scorer.sha256},
            {
                "driqa_queue_pictures": ("waiting images", lambda: len(self.queue)),
                "driqa_held_bytes": ("bytes of all requests in memory", lambda: self.held.now),
                "driqa_picture_seconds": ("seconds per image, running mean", lambda: self.worker.seconds_per_image),
                "driqa_ready": ("1 once the model is compiled", self.worker.ready.is_set),
            },
        )

    def health(self) -> dict[str, Any]:
        """Status, version, model, limits."""
        status = "ok" if self.worker.ready.is_set() else "failed" if self.worker.failure else "starting"
        shown = ("request_bytes", "pictures", "pixels", "queue", "seconds")
        limits = {name: getattr(self.limits, name) for name in shown}
        return {"status": status, "version": VERSION, "model": self.model, "limits": limits}

    async def answer(self, request: Request, kind: Kind, describe: Describe) -> Response:
        """Read the images of a request, process them, answer. Raises HTTPException."""
        check_content_type(content_type := request.headers.get("content-type", ""))
        if not self.worker.ready.is_set():
            reason = "the model is being compiled; /healthz answers 200 when it is ready"
            raise HTTPException(503, reason, {"retry-after": "5"})
        if len(self.queue) >= self.limits.queue:  # before the body is read
            wait = len(self.queue) * self.worker.seconds_per_image
            raise overloaded(f"{len(self.queue)} images are waiting already", wait)
        with self.held.holding() as take:
            body = await read_body(request, self.limits, take)
            uploads = await asyncio.to_thread(uploads_in, body, content_type, self.limits.pictures)
            del body
            status, entries = await entries_of(request, kind, uploads, self.limits, self.worker, describe)
        for entry in entries:
            self.metrics.pictures.labels(kind, "failed" if entry["error"] else "done").inc()
        return answers.JSON({"model": self.model, "results": entries}, status)


def create_app(
    scorer: Any, limits: Limits, on_failure: Callable[[], None] = lambda: None, meaning: Any = None
) -> FastAPI:
    """The ASGI application of one `driqa_jax.Scorer`. Its lifespan starts and stops the worker thread.

    `app.state.service` is the `Service`. on_failure: called if the worker ends with an error. meaning: adds percentiles
    and bands to the answers.
    """
    service = Service(scorer, limits, SHOWN_PIXELS, on_failure)

    @contextlib.asynccontextmanager
    async def lifespan(app):
        service.worker.start()
        yield
        await asyncio.to_thread(service.worker.stop, service.limits.grace_seconds)

    app = FastAPI(
        title="driqa serve",
        version=VERSION,
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,  # the documentation pages load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,  # a redirect would use the Host header of the client
    )
    app.state.service = service
    problems = {status: {"model": answers.Problem, "description": about} for status, about in _PROBLEMS.items()}

    @app.post("/v1/score", response_model=answers.Scores, responses=problems, openapi_extra=_BODY)
    async def score(request: Request):
        """A score for each image."""
        return await service.answer(request, "score", functools.partial(answers.score, meaning=meaning))

    @app.post("/v1/explain", response_model=answers.Explanations, responses=problems, openapi_extra=_BODY)
    async def explain(request: Request, image_format: answers.ImageFormat = "webp"):
        """A score for each image, with what stands out, quality map and restored image."""
        describe = functools.partial(answers.explanation, kind=image_format, meaning=meaning)
        return await service.answer(request, "explain", describe)

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", response_model=answers.Health, responses={503: {"model": answers.Health}})
    async def healthz():
        """200 once the model is compiled, 503 before."""
        health = service.health()
        return answers.JSON(health, 200 if health["status"] == "ok" else 503)

    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics():
        """Metrics in the text format of Prometheus."""
        return Response(service.metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})

    app.router.routes.extend(_page_routes())
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(ClientDisconnect, _disconnected)
    known = frozenset({"/v1/score", "/v1/explain", "/healthz", "/metrics", "/openapi.json", *FILES})
    app.add_middleware(Observed, metrics=service.metrics, paths=known, headers=HEADERS)
    return app


def _page_routes() -> list[Route]:
    """The page and the files that it loads. STOPS and EVEN in a file are replaced by the colors of the maps."""
    folder = importlib.resources.files("driqa_jax.serving") / "page"
    made = []
    for path, (name, kind) in FILES.items():
        content = (folder / name).read_text("utf-8")
        content = content.replace("STOPS", ", ".join(color_stops())).replace("EVEN", EVEN_COLOR)
        answer = Response(content, media_type=kind, headers={"cache-control": "no-cache"})
        made.append(Route(path, answer, methods=["GET"]))  # a response is an ASGI application
    return made


async def _http_problem(request, error: HTTPException) -> Response:
    return answers.JSON({"error": error.detail}, error.status_code, headers=error.headers)


async def _disconnected(request, error: ClientDisconnect) -> Response:
    return answers.JSON({"error": "the client has disconnected"}, 499)
