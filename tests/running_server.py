"""A real server on a real socket in this process, with a small model, and a client that keeps to http.client."""

import contextlib
import http.client
import io
import json
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import uvicorn
from fake_model import METADATA, FakeModel, fake_params
from PIL import Image

from driqa_jax.inference.scorer import Scorer
from driqa_jax.serving.app import create_app
from driqa_jax.serving.limits import Limits
from driqa_jax.serving.server import bound_socket, server_config


class ExplainableModel(FakeModel):
    """The fake model with what an explanation reads; its restorer inverts."""

    def apply(self, variables, *inputs, per_tile=False, method=None):
        if method == "restore":
            return 1 - inputs[0]
        mos, out = super().apply(variables, *inputs, per_tile=per_tile)
        whole = inputs[0]
        cells = whole.mean(axis=3).reshape(len(whole), whole.shape[1] // 32, 32, -1, 32).mean(axis=(2, 4))
        logits = jnp.tile(jnp.array([[2.0, -2.0]]), (len(whole), 1))
        seen = {"degradation_logits": logits, "severity": jax.nn.sigmoid(logits / 2)}
        return mos, {**out, "patch_scores": cells, "patch_weights": jnp.ones_like(cells), **seen}


def small_scorer(**options):
    return Scorer(ExplainableModel(), fake_params(), METADATA, name="fake", **options)


def encoded(image, kind="png"):
    file = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(file, kind)
    return file.getvalue()


class Client:
    """Requests to one server; every answer is status, headers (lower case), body (JSON decoded where it is)."""

    def __init__(self, port):
        self.port = port

    def request(self, method, path, body=None, headers=None, timeout=30):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            said = {key.lower(): value for key, value in answer.getheaders()}
            data = answer.read()
        if data and said.get("content-type", "").startswith("application/json"):
            data = json.loads(data)
        return answer.status, said, data

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, body, content_type="application/octet-stream", **headers):
        return self.request("POST", path, body, {"content-type": content_type, **headers})

    def send(self, path, pictures):
        """A form of (name, bytes)."""
        return self.post(path, form(pictures), "multipart/form-data; boundary=XX")

    def healthy(self):
        status, _, said = self.get("/healthz")
        return status == 200 and said["status"] == "ok"


def form(pictures):
    parts = (
        b'--XX\r\nContent-Disposition: form-data; name="image"; filename="%s"\r\n\r\n%s\r\n' % (name.encode(), data)
        for name, data in pictures
    )
    return b"".join(parts) + b"--XX--\r\n"


@contextlib.contextmanager
def running(scorer, meaning=None, **limits):
    """A client of a server that has its model compiled."""
    limits = Limits(**limits)
    app = create_app(scorer, limits, meaning=meaning)
    server, listener = uvicorn.Server(server_config(app, limits)), bound_socket("127.0.0.1", 0)
    client = Client(listener.getsockname()[1])
    client.service, client.server = app.state.service, server
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        assert client.service.worker.ready.wait(120), client.service.worker.failure
        client.service.worker._compiler.join(120)
        yield client
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def within(seconds, true):
    """Wait until it is."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)
