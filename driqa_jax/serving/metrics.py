"""Prometheus metrics of a server."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Metrics of one server. gauges: name -> (help, function that reads the value)."""

    def __init__(self, info: dict[str, str], gauges: dict[str, tuple[str, Callable[[], float]]]):
        self._registry = registry = CollectorRegistry()
        Gauge("driqa_info", "the model and its version", list(info), registry=registry).labels(**info).set(1)
        for name, (about, function) in gauges.items():
            Gauge(name, about, registry=registry).set_function(function)
        self.requests = Counter("driqa_requests", "answered requests", ["path", "status"], registry=registry)
        self.seconds = Histogram(
            "driqa_request_seconds",
            "from the header of a request to the end of its answer",
            ["path"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.pictures = Counter("driqa_pictures", "answered images", ["kind", "outcome"], registry=registry)

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self._registry)


class Observed:
    """ASGI middleware: adds headers to every answer; counts and times answers by path, unknown paths as "other"."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str], headers: list[tuple[bytes, bytes]]):
        self._app, self._metrics, self._paths, self._headers = app, metrics, paths, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        status, began = "none", time.monotonic()

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            self._metrics.requests.labels(path, status).inc()
            self._metrics.seconds.labels(path).observe(time.monotonic() - began)
