"""The server scores what `driqa score` scores, refuses what is too much, and goes on."""

import base64
import gc
import http.client
import io
import json
import socket
import struct
import threading
import time
import zlib

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")
pytest.importorskip("python_multipart", reason="needs the extra serve")
pytest.importorskip("prometheus_client", reason="needs the extra serve")

from fake_model import pictures  # noqa: E402
from PIL import Image  # noqa: E402
from python_multipart import FormParser  # noqa: E402
from running_server import encoded, form, running, small_scorer, within  # noqa: E402
from starlette.exceptions import HTTPException  # noqa: E402

from driqa_jax.reports.colormap import overlay  # noqa: E402
from driqa_jax.serving.limits import Limits  # noqa: E402
from driqa_jax.serving.requests import Upload, uploads_in  # noqa: E402
from driqa_jax.serving.worker import FairQueue, Job, QueueFull  # noqa: E402

GOOD = encoded(pictures()[0])
MULTIPART = "multipart/form-data; boundary=XX"


@pytest.fixture(scope="module")
def scorer():
    return small_scorer()


@pytest.fixture(scope="module")
def server(scorer):
    with running(scorer, request_bytes=2_000_000, pictures=8, pixels=150_000, upload_seconds=1, seconds=20) as client:
        yield client


@pytest.fixture
def slow(scorer, monkeypatch):
    """Scores wait while this event is clear."""
    go = threading.Event()
    go.set()
    stream = type(scorer).stream

    def stuck(self, images, names=None):
        for result in stream(self, images, names):
            go.wait(20)
            yield result

    monkeypatch.setattr(type(scorer), "stream", stuck)
    yield go
    go.set()


def test_a_body_and_a_form_get_the_scores_of_the_scorer(server, scorer):
    expected = list(scorer.stream(pictures()))
    status, headers, said = server.post("/v1/score", GOOD, "image/png")
    assert status == 200 and headers["content-type"] == "application/json"
    assert said["model"] == {"name": "fake", "sha256": scorer.sha256}
    first = {"name": "picture", "score": expected[0].score, "uncertainty": expected[0].uncertainty, "error": None}
    assert said["results"] == [first] and first["uncertainty"] > 0
    sent = [(f"{i}.png", encoded(image)) for i, image in enumerate(pictures())]
    status, _, said = server.send("/v1/score", sent)
    assert status == 200
    assert [entry["name"] for entry in said["results"]] == [name for name, _ in sent]
    assert [entry["score"] for entry in said["results"]] == [result.score for result in expected]


def test_an_explanation_has_map_images_and_names(server, scorer):
    status, _, said = server.send("/v1/explain?image_format=png", [("a.png", GOOD), ("b.png", b"none")])
    assert status == 200
    entry, broken = said["results"]
    found = scorer.explain(GOOD)
    assert (entry["score"], entry["uncertainty"], entry["named"]) == (found.score, found.uncertainty, ["blur"])
    assert [row["name"] for row in entry["degradations"]] == ["blur", "noise"]
    assert np.shape(entry["quality_map"]) == np.shape(entry["weights"]) == found.quality_map.shape
    # This model says nothing about single tiles, so there is no place.
    assert entry["findings"] == [found.faults()[0].to_dict()] and entry["findings"][0]["where"] == ""
    assert entry["map"] == found.to_dict()["map"]
    shown = {}
    for key, url in entry["images"].items():
        kind, _, data = url.partition(";base64,")
        assert kind == "data:image/png"
        shown[key] = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    np.testing.assert_array_equal(shown["picture"], pictures()[0])
    np.testing.assert_array_equal(shown["restored"], found.restored)
    np.testing.assert_array_equal(shown["quality_map"], overlay(found))
    np.testing.assert_allclose(entry["quality_map"], found.quality_map, atol=0.006)
    assert broken["error"] and broken["score"] is None
    assert server.post("/v1/explain?image_format=gif", GOOD)[0] == 422


def test_broken_images_get_error_entries_in_order(server):
    sent = [("a.png", GOOD), ("b.png", b""), ("c.png", GOOD[: len(GOOD) // 2]), ("d.png", b"<svg/>"), ("e.png", GOOD)]
    status, _, said = server.send("/v1/score", sent)
    assert status == 200
    assert [entry["error"] is None for entry in said["results"]] == [True, False, False, False, True]
    assert said["results"][0]["score"] == said["results"][4]["score"]
    for path in ("/v1/score", "/v1/explain"):
        for data, reason in ((sent[1][1], "empty"), (sent[2][1], "truncated"), (sent[3][1], "an SVG drawing")):
            status, _, said = server.post(path, data)
            assert status == 422 and reason in said["results"][0]["error"]


def test_pixels_are_counted_before_decoding(server, monkeypatch):
    monkeypatch.setattr("driqa_jax.inference.scorer.decode", lambda *a: pytest.fail("decoded"))
    # A bomb: ten gigapixels in a few bytes, and not one of them is looked at.
    header = struct.pack(">4sIIBBBBB", b"IHDR", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header)) + b"\0\0\0\x08IDAT" + bytes(12)
    for data, said in ((encoded(np.zeros((400, 400), np.uint8)), "400x400 is 0.2"), (bomb, "100000x100000 is 10000.0")):
        status, _, answer = server.post("/v1/score", data)
        assert status == 413 and f"{said} megapixels" in answer["results"][0]["error"]


def test_content_types_without_images_are_refused(server):
    for kind in (
        "text/plain",
        "application/json",
        "application/x-www-form-urlencoded",
        "text/html; charset=utf-8",
        "x",
    ):
        status, _, said = server.post("/v1/score", GOOD, kind)
        assert status == 415 and "contains no images" in said["error"]
    assert server.request("POST", "/v1/score", GOOD)[0] == 200  # nothing said: bytes
    assert server.get("/v1/score")[0] == 405 and server.get("/etc/passwd")[0] == 404


@pytest.mark.parametrize(
    "body, kind, status, reason",
    [
        (form([("a.png", GOOD)])[:-12], MULTIPART, 400, "cut off"),
        (form([("a.png", GOOD)])[:60], MULTIPART, 400, "cut off"),
        (form([("a.png", GOOD)]), "multipart/form-data", 400, "boundary"),
        (form([("a.png", GOOD)]), "multipart/form-data; boundary=YY", 400, "damaged"),
        (b"--XX--\r\n", MULTIPART, 400, "no image"),
        (b"", MULTIPART, 400, "cut off"),
        (
            b'--XX\r\nContent-Disposition: form-data; name="url"\r\n\r\nhttp://x\r\n--XX--\r\n',
            MULTIPART,
            400,
            "file name",
        ),
        (form([(f"{i}.png", b"x") for i in range(9)]), MULTIPART, 413, "more than 8"),
        (bytes(2_000_001), "image/png", 413, "longer than 2000000 bytes"),
    ],
)
def test_damaged_or_oversized_forms_and_bodies_are_refused(server, body, kind, status, reason):
    found, _, said = server.post("/v1/score", body, kind)
    assert found == status and reason in said["error"]
    assert server.healthy()


def test_a_body_of_unknown_length_is_cut_at_the_limit(server):
    chunks = iter([bytes(100_000)] * 30)
    status, _, said = server.request("POST", "/v1/score", chunks, {"content-type": "image/png"})
    assert status == 413 and "longer" in said["error"]


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "<script>alert(1)</script>", "http://localhost/x", "%00", "é\u202e\x07"]
)
def test_names_are_returned_and_never_opened(server, name, monkeypatch):
    opened = []
    monkeypatch.setattr("builtins.open", lambda *a, **k: opened.append(a) or pytest.fail("a file was opened"))
    body = form([(name, GOOD)])
    connection = socket.create_connection(("127.0.0.1", server.port), 20)
    head = (
        f"POST /v1/score HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        f"content-type: {MULTIPART}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, said = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0] and b"nosniff" in head
    assert said.isascii() and not set(b"<>&\x07") & set(said)
    (entry,) = json.loads(said)["results"]
    assert entry["name"] == "".join(c if c.isprintable() else "\ufffd" for c in name) and entry["score"] is not None
    assert opened == []


def test_health_metrics_openapi_and_security_headers(server):
    server.post("/v1/score", GOOD)
    status, headers, said = server.get("/healthz")
    assert status == 200 and said["status"] == "ok" and said["limits"]["pixels"] == 150_000
    assert "default-src 'none'" in headers["content-security-policy"] and headers["x-content-type-options"] == "nosniff"
    status, headers, text = server.get("/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain")
    lines = text.decode().splitlines()
    for begin in (
        'driqa_requests_total{path="/v1/score",status="200"}',
        'driqa_pictures_total{kind="score",outcome="done"}',
        'driqa_request_seconds_bucket{le="0.05",path="/v1/score"}',
        "driqa_queue_pictures 0.0",
        "driqa_held_bytes 0.0",
        "driqa_ready 1.0",
        'driqa_info{model="fake"',
    ):
        assert any(line.startswith(begin) for line in lines), begin
    assert server.get("/nowhere")[0] == 404
    assert b'path="other",status="404"' in server.get("/metrics")[2]
    status, _, api = server.get("/openapi.json")
    assert status == 200 and set(api["paths"]) == {"/v1/score", "/v1/explain", "/healthz", "/metrics"}
    assert {"200", "413", "415", "422", "429", "503", "504"} <= set(api["paths"]["/v1/score"]["post"]["responses"])
    assert server.get("/docs")[0] == 404 and server.get("/redoc")[0] == 404


def test_overload_is_429_and_accepted_requests_are_answered(scorer, slow):
    with running(scorer, queue=4, seconds=20) as client:
        slow.clear()
        answers, threads = [], []

        def send(count):
            answers.append(client.send("/v1/score", [("a.png", GOOD)] * count))

        def start(count):
            threads.append(threading.Thread(target=send, args=(count,)))
            threads[-1].start()

        start(1)
        within(10, lambda: client.service.worker._thread.is_alive() and not len(client.service.queue))
        time.sleep(0.1)
        start(4)
        within(10, lambda: len(client.service.queue) >= 2)
        began = time.monotonic()
        status, headers, said = client.send("/v1/score", [("a.png", GOOD)] * 4)
        assert status == 429 and int(headers["retry-after"]) >= 1 and "waiting already" in said["error"]
        assert time.monotonic() - began < 5 and client.healthy()
        slow.set()
        for thread in threads:
            thread.join(20)
        assert [status for status, _, _ in answers] == [200, 200]
        assert client.service.held.now == 0 and len(client.service.queue) == 0
        assert client.send("/v1/score", [("a.png", GOOD)] * 4)[0] == 200


def test_bytes_of_all_requests_together_are_bounded(scorer):
    with running(scorer, held_bytes=len(GOOD) + 10) as client:
        assert client.post("/v1/score", GOOD)[0] == 200
        status, headers, _ = client.post("/v1/score", GOOD + bytes(11))
        assert status == 429 and headers["retry-after"]
        assert client.post("/v1/score", GOOD)[0] == 200


def test_a_timeout_is_504_and_its_jobs_are_cancelled(scorer, slow):
    with running(scorer, seconds=0.3) as client:
        slow.clear()
        status, _, said = client.post("/v1/score", GOOD)
        assert status == 504 and "0.3 s" in said["results"][0]["error"]
        slow.set()
        within(10, lambda: client.post("/v1/score", GOOD)[0] == 200)


def test_images_of_a_disconnected_client_are_not_scored(scorer, slow):
    with running(scorer, queue=20) as client:
        slow.clear()
        connection = socket.create_connection(("127.0.0.1", client.port))
        body = form([("a.png", GOOD)] * 12)
        head = f"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-type: {MULTIPART}\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        within(10, lambda: client.service.queue)
        connection.close()
        within(10, lambda: client.service.held.now == 0)
        slow.set()
        assert client.send("/v1/score", [("a.png", GOOD)] * 20)[0] == 200
        assert b'outcome="done"} 20.0' in client.get("/metrics")[2]


def test_running_requests_finish_after_a_stop_signal(scorer, slow):
    with running(scorer) as client:
        slow.clear()
        answers = []
        thread = threading.Thread(target=lambda: answers.append(client.send("/v1/score", [("a.png", GOOD)] * 3)))
        thread.start()
        within(10, lambda: client.service.held.now)
        time.sleep(0.2)
        client.server.should_exit = True
        within(10, lambda: _refused(client.port))
        slow.set()
        thread.join(20)
        ((status, _, said),) = answers
        assert status == 200 and all(entry["score"] is not None for entry in said["results"])


def _refused(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


def test_an_unexpected_failure_is_500_once(scorer, monkeypatch):
    with running(scorer) as client:
        with monkeypatch.context() as patch:
            patch.setattr(scorer.executor, "predictions", lambda *a: 1 / 0)
            for path in ("/v1/score", "/v1/explain"):
                status, _, said = client.post(path, GOOD)
                assert status == 500 and "log" in said["results"][0]["error"]
                assert "division" not in json.dumps(said)
        assert client.post("/v1/score", GOOD)[0] == 200


def test_a_connection_idles_between_requests_longer_than_a_request_may_take(scorer):
    assert Limits().keep_alive_seconds > 60  # of most proxies
    with running(scorer, upload_seconds=1, keep_alive_seconds=3) as client:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
        for pause in (0, 1.6):  # longer than the time for a request
            time.sleep(pause)
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            assert answer.status == 200 and answer.read()
        began = time.monotonic()
        assert connection.sock.recv(1) == b"" and time.monotonic() - began > 1.5
        connection.close()
        with socket.create_connection(("127.0.0.1", client.port), 20) as trickling:
            trickling.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"200 OK" in trickling.recv(4096)
            trickling.sendall(b"GET /heal")  # the next header begins, and stays unfinished
            began = time.monotonic()
            while trickling.recv(4096):
                pass
            assert 0.5 < time.monotonic() - began < 2.5


def test_head_gives_the_headers_of_get(server):
    for path in ("/healthz", "/metrics", "/openapi.json", "/", "/page.js"):
        got, head = server.get(path), server.request("HEAD", path)
        same = ("content-type", "content-security-policy") + (("content-length",) if path != "/metrics" else ())
        assert head[0] == got[0] == 200 and head[2] == b"", path
        assert [head[1][key] for key in same] == [got[1][key] for key in same]
    assert "head" not in server.get("/openapi.json")[2]["paths"]["/healthz"]


def test_a_client_that_sends_too_slowly_is_disconnected(server):
    starts = (
        b"POST /v1/sc",
        b"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: 99\r\n\r\n",
    )
    for start in starts:
        connection = socket.create_connection(("127.0.0.1", server.port), 20)
        connection.sendall(start)
        began, open_ = time.monotonic(), True
        while open_ and time.monotonic() - began < 10:
            time.sleep(0.1)
            try:
                connection.sendall(b"a")
                connection.setblocking(False)
                open_ = connection.recv(4096) != b"" if time.monotonic() - began > 5 else _still_open(connection)
            except BlockingIOError:
                pass
            except OSError:
                open_ = False
            connection.setblocking(True)
        assert not open_ and time.monotonic() - began < 4
        assert server.healthy()


def _still_open(connection):
    data = connection.recv(4096)
    assert data == b"" or b" 408 " in data
    return data != b""


def test_a_client_that_never_reads_is_disconnected(server):
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 2000)
    within(20, lambda: _reset(connection))
    assert server.healthy()


def _reset(connection):
    try:
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n")
    except OSError:
        return True
    return False


def test_huge_and_invalid_headers_are_refused(server):
    for lines in (
        b"x: " + b"a" * 200_000,
        b"a:b\r\n" * 40_000,
        b"\x00\xff",
        b"content-length: -1",
        b"content-length: 9" * 9,
    ):
        connection = socket.create_connection(("127.0.0.1", server.port), 20)
        with connection:
            try:
                connection.sendall(b"POST /v1/score HTTP/1.1\r\nhost: x\r\n" + lines + b"\r\n\r\n")
                answer = connection.recv(4096)
            except ConnectionError:
                answer = b""
        assert answer == b"" or b" 400 " in answer.splitlines()[0]
        assert server.healthy()


def test_the_queue_serves_requests_in_turn_and_takes_all_or_none():
    queue = FairQueue(5)
    many, one = [Job("score", b"%d" % i) for i in range(3)], Job("explain", b"x")
    queue.put(many)
    queue.put([one])
    with pytest.raises(QueueFull):
        queue.put([Job("score", b"")] * 2)
    assert len(queue) == 4
    assert queue.take() is many[0] and queue.take_now("score") is None and queue.take() is one
    many[1].future.cancel()
    assert queue.take_now("score") is many[2] and queue.take_now("score") is None and len(queue) == 0
    waiting = [Job("score", b"") for _ in range(5)]
    queue.put(waiting)
    for job in waiting[:2]:
        job.future.cancel()
    queue.put([Job("score", b"")] * 2)  # nobody waits for two of them any more
    queue.close()
    assert queue.take() is None and all(job.future.cancelled() for job in waiting)
    with pytest.raises(QueueFull):
        queue.put([one])


def test_forms_are_parsed_with_any_bytes_in_the_files():
    data = b"\r\n--X\r\n--XX\n\r--" + bytes(range(256))
    assert uploads_in(form([("ä.png", data), ("", b"")]), MULTIPART, 2) == [
        Upload("ä.png", data),
        Upload("picture", b""),
    ]
    long = uploads_in(form([("n" * 4000, b"x")]), MULTIPART, 1)[0].name
    assert len(long) == 255 and long.endswith("…")
    with pytest.raises(HTTPException, match="413"):
        uploads_in(form([("a", b"x")] * 3), MULTIPART, 2)
    with pytest.raises(HTTPException, match="400: the form is damaged"):
        uploads_in(form([("a", b"x")]), "multipart/form-data; boundary=" + "X" * 300, 2)


def test_the_images_of_a_form_leave_memory_with_the_request():
    gc.collect()
    gc.disable()
    try:
        uploads_in(form([("a", b"x")]), MULTIPART, 1)
        with pytest.raises(HTTPException):
            uploads_in(form([("a", b"x")] * 2), MULTIPART, 1)
        assert not [one for one in gc.get_objects() if isinstance(one, FormParser)]
    finally:
        gc.enable()
