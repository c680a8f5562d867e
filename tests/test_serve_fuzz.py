"""Whatever bytes come: an answer or a closed connection, never a crash, a hang or a 500."""

import collections
import concurrent.futures
import random
import socket

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")
pytest.importorskip("python_multipart", reason="needs the extra serve")
pytest.importorskip("prometheus_client", reason="needs the extra serve")

from fake_model import picture  # noqa: E402
from running_server import encoded, form, running, small_scorer, within  # noqa: E402
from starlette.exceptions import HTTPException  # noqa: E402

from driqa_jax.serving.requests import uploads_in  # noqa: E402

FORMATS = ("png", "jpeg", "webp", "gif", "bmp", "tiff", "ppm", "jpeg2000", "ico")
GOOD = [encoded(picture(24, 40, 3), kind) for kind in FORMATS]
EXPECTED = {200, 400, 404, 405, 408, 413, 415, 422}
FORM = "multipart/form-data; boundary=XX"
KINDS = ("image/png",) * 4 + (FORM,) * 5 + ("application/octet-stream", "text/html", "image/", "", ";;=", "é")
METHODS = ("POST",) * 16 + ("GET", "PUT", "X" * 70)
PATHS = (
    ("/v1/score",) * 28
    + ("/v1/explain", "/v1/explain?image_format=png")
    + ("/", "/../../etc/passwd", "/%2e%2e/%00", "*", "//", "?")
)
AT_ONCE = 12


@pytest.fixture(scope="module")
def server():
    with running(
        small_scorer(),
        upload_seconds=0.5,
        keep_alive_seconds=1,
        seconds=20,
        request_bytes=300_000,
        pictures=8,
        pixels=1e6,
    ) as client:
        yield client


def mutated(rng, data):
    """Bytes changed, cut, doubled, put in or taken out."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(5)
        if how == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif how == 1:
            del data[at:]
        elif how == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 40))
        elif how == 3:
            data[at:at] = data[: rng.randrange(1, 200)]
        else:
            del data[at : at + rng.randrange(1, 40)]
    return bytes(data)


def a_body(rng):
    how = rng.randrange(4)
    if how == 0:
        return rng.randbytes(rng.randrange(3000))
    if how == 1:
        return mutated(rng, rng.choice(GOOD))
    sent = form(
        [(rng.choice(("a.png", "../x", "\x00", '"', "é" * 300)), rng.choice(GOOD)) for _ in range(rng.randrange(4))]
    )
    return sent if how == 2 else mutated(rng, sent)


def a_request(rng):
    """Bytes of a request, more or less."""
    if rng.randrange(8) == 0:
        return rng.randbytes(rng.randrange(1, 4000))
    body = a_body(rng)
    method = rng.choice(METHODS)
    head = f"{method} {rng.choice(PATHS)} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    head += f"content-type: {rng.choice(KINDS)}\r\n"
    if rng.randrange(4):
        length = rng.choice((len(body),) * 6 + (0, 10**9, max(0, len(body) - 5), len(body) + 5))
        whole = f"{head}content-length: {length}\r\n\r\n".encode("latin-1") + body
    else:
        cut = rng.randrange(len(body) + 1)
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:cut], body[cut:]) if part)
        whole = f"{head}transfer-encoding: chunked\r\n\r\n".encode("latin-1") + chunks + b"0\r\n\r\n"
    return mutated(rng, whole) if rng.randrange(5) == 0 else whole


def exchanged(port, data):
    """The status of the answer, or None where the connection was closed without one; a hang is a TimeoutError."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        try:
            connection.sendall(data)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionError:
            return None
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else None


def hammer(server, count, seed):
    """How often each status came; None: closed without one."""
    rng = random.Random(seed)
    seen = collections.Counter()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as clients:
        for begin in range(0, count, 100):
            sent = [a_request(rng) for _ in range(min(100, count - begin))]
            for data, status in zip(sent, clients.map(lambda data: exchanged(server.port, data), sent), strict=True):
                assert status is None or status in EXPECTED, (status, data[:300])
                seen[status] += 1
            assert server.healthy()
    assert server.service.worker._thread.is_alive()
    within(30, lambda: server.service.held.now == 0 and len(server.service.queue) == 0)
    assert server.post("/v1/score", GOOD[0])[0] == 200
    return seen


def test_hundreds_of_malformed_requests(server, caplog):
    seen = hammer(server, 300, seed=0)
    assert {200, 400, 404, 415, 422, None} <= set(seen), seen
    assert not [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.long
def test_thousands_of_malformed_requests(server):
    print(hammer(server, 5000, seed=1))


def test_malformed_forms_are_parsed_or_refused():
    rng = random.Random(2)
    for _ in range(2000):
        kind = rng.choice(("multipart/form-data; boundary=XX", "multipart/form-data; boundary=-", *KINDS))
        kind = mutated(rng, kind.encode()).decode("latin-1") if rng.randrange(3) == 0 else kind
        try:
            found = uploads_in(a_body(rng), kind, 3)
        except HTTPException as refused:
            assert refused.status_code in (400, 413, 415)
        else:
            assert 1 <= len(found) <= 3 and all(one.name and len(one.name) <= 255 for one in found)
