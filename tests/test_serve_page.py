"""The page in a real browser: pictures in, scores, reasons, order and CSV out; nothing from anywhere else."""

import csv
import time

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")
pytest.importorskip("prometheus_client", reason="needs the extra serve")

from browser import MISSING, browser  # noqa: E402
from fake_model import pictures  # noqa: E402
from running_server import encoded, running, small_scorer, within  # noqa: E402

from driqa_jax.reports.meaning import Meaning, parse_bands  # noqa: E402
from driqa_jax.reports.reference import Reference  # noqa: E402
from driqa_jax.serving.app import FILES, POLICY  # noqa: E402

ODD = "b, & <img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def server():
    with running(small_scorer(), request_bytes=1_000_000) as client:
        yield client


@pytest.fixture
def window(server, tmp_path):
    if MISSING:
        pytest.skip(MISSING)
    with browser(tmp_path) as window:
        window.open(f"http://127.0.0.1:{server.port}/")
        yield window
        # Chromium says of a picture that could not be read, which is an answer, that it failed to load.
        assert [said for said in window.complaints() if "status of 422" not in said] == []


@pytest.fixture
def files(tmp_path):
    names = ("a.png", ODD, "c.png")
    for name, image in zip(names, pictures(), strict=False):
        (tmp_path / name).write_bytes(encoded(image))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "large.bmp").write_bytes(b"BM" + bytes(1_000_000))
    return [tmp_path / name for name in (*names, "broken.jpg", "large.bmp")]


def shown(window, what):
    script = "return [...document.querySelectorAll('#list li')].map(row => row.querySelector(arguments[0]).textContent)"
    return window.run(script, what)


def all_done(window, count):
    done = "return document.querySelectorAll('#list li:not(.waiting)').length"
    within(60, lambda: window.run(done) == count)


def sort(window, order):
    window.run(
        "const s = document.getElementById('sort'); s.value = arguments[0]; s.dispatchEvent(new Event('change'))", order
    )


def test_images_get_scores_reasons_an_order_and_a_file(window, server, files, tmp_path):
    scores = [
        entry["score"]
        for entry in server.send("/v1/score", [(f"{i}.png", file.read_bytes()) for i, file in enumerate(files[:3])])[2][
            "results"
        ]
    ]
    window.type("#choose", "\n".join(map(str, files)))
    all_done(window, 5)
    assert shown(window, "bdi") == [file.name for file in files]
    assert shown(window, ".score") == [*(f"{score:.1f}" for score in scores), "", ""]
    assert shown(window, ".error") == ["", "", "", "not a picture in a known format", "larger than this server's 1 MB"]
    assert "2 could not be scored" in window.run("return document.getElementById('summary').textContent")
    sort(window, "worst")
    by_score = [file.name for _, file in sorted(zip(scores, files, strict=False))]
    assert shown(window, "bdi") == [*by_score, "broken.jpg", "large.bmp"]
    sort(window, "name")
    assert shown(window, "bdi") == ["a.png", ODD, "broken.jpg", "c.png", "large.bmp"]
    window.click("#csv")
    saved = tmp_path / "scores.csv"
    within(20, saved.exists)
    header, *rows = csv.reader(saved.open(newline=""))
    assert header == ["name", "score", "uncertainty", "error"]
    assert rows[1][:2] == [ODD, f"{scores[1]:.2f}"] and rows[2][3] == "not a picture in a known format"
    window.click("#clear")
    assert shown(window, "bdi") == [] and window.run("return document.getElementById('results').hidden")


def test_a_band_and_a_percentile_stand_under_the_name_and_in_the_file(files, tmp_path):
    reference = Reference(np.linspace(0, 100, 201), 200, "photos", "CC0", "2026-01-01", "x", "default")
    with running(small_scorer(), Meaning(reference, parse_bands("words"))) as server:
        (entry,) = server.send("/v1/score", [("a.png", files[0].read_bytes())])[2]["results"]
        assert entry["band"] == parse_bands("words").name(entry["score"])
        expected = f"band {entry['band']}, percentile {entry['percentile']:g}"
        assert entry["percentile"] == pytest.approx(entry["score"], abs=0.3)
        explained = server.send("/v1/explain", [("a.png", files[0].read_bytes())])[2]["results"][0]
        assert (explained["band"], explained["percentile"]) == (entry["band"], entry["percentile"])
        if MISSING:
            pytest.skip(MISSING)
        with browser(tmp_path) as window:
            window.open(f"http://127.0.0.1:{server.port}/")
            window.type("#choose", f"{files[0]}\n{files[3]}")
            all_done(window, 2)
            assert shown(window, ".meaning") == [expected, ""]
            window.click("#csv")
            saved = tmp_path / "scores.csv"
            within(20, saved.exists)
            header, row, broken = csv.reader(saved.open(newline=""))
            assert header[4:] == ["percentile", "band"] and row[5] == entry["band"] and broken[4:] == ["", ""]


def test_a_row_opens_by_keyboard_with_an_explanation(window, files):
    window.type("#choose", str(files[0]))
    all_done(window, 1)
    window.type("#list .row", "\ue007")  # Enter
    within(60, lambda: window.run("return document.querySelector('.compare img')?.naturalWidth > 0"))
    assert window.run("return document.querySelector('.row').getAttribute('aria-expanded')") == "true"
    assert shown(window, ".named tbody").pop().startswith("blur0.88")
    assert "Quality map, from" in shown(window, "figcaption").pop()
    assert shown(window, ".findings") == ["blur strong"]  # a type of no group; this model says nothing about tiles
    images = window.run("return [...document.images].map(i => [i.naturalWidth, i.naturalHeight, i.alt])")
    assert [image[:2] for image in images] == [[300, 300]] * 3
    assert [image[2].partition("a.png")[0] for image in images] == ["", "", "quality map over "]
    before = window.run("return getComputedStyle(document.querySelector('.after')).clipPath")
    window.type(".compare input", "\ue012" * 9)  # to the left
    assert window.run("return getComputedStyle(document.querySelector('.after')).clipPath") != before
    window.type("#list .row", "\ue007")
    assert window.run("return document.querySelector('.why').hidden")


def test_many_dropped_images_are_sent_again_after_an_overload(window, server, files, monkeypatch):
    refused = []
    queue = server.service.queue
    put = queue.put

    def full_at_first(jobs):
        if len(refused) < 2:
            refused.append(1)
            from driqa_jax.serving.worker import QueueFull

            raise QueueFull
        put(jobs)

    monkeypatch.setattr(queue, "put", full_at_first)
    drop = """
        const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0)), transfer = new DataTransfer();
        for (let i = 0; i < 13; i++) transfer.items.add(new File([bytes], `${i}.png`, {type: "image/png"}));
        document.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
    """
    import base64

    window.run(drop, base64.b64encode(files[0].read_bytes()).decode())
    all_done(window, 13)
    assert len(set(shown(window, ".score"))) == 1 and len(refused) == 2
    assert sorted(shown(window, "bdi")) == sorted(f"{i}.png" for i in range(13))
    window.complaints()  # 429 is said there


def test_it_fits_a_narrow_window_and_every_control_has_a_name(window, files):
    window.devtools("Emulation.setDeviceMetricsOverride", width=340, height=700, deviceScaleFactor=1, mobile=False)
    window.type("#choose", "\n".join(map(str, files[:2])))
    all_done(window, 2)
    window.click("#list .row")
    within(60, lambda: window.run("return document.querySelectorAll('.compare').length"))
    time.sleep(0.3)
    assert window.run("return document.documentElement.scrollWidth") <= 340
    nodes = window.devtools("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "combobox", "slider", "progressbar", "image", "Button")
    found = [
        (node["role"]["value"], node["name"]["value"])
        for node in nodes
        if node["role"]["value"] in roles and not node["ignored"]
    ]
    assert {"slider", "combobox"} <= {role for role, _ in found} and all(name for _, name in found)


def test_the_page_loads_files_only_from_the_server(server):
    for path, (_, kind) in FILES.items():
        status, headers, body = server.get(path)
        assert status == 200 and headers["content-type"] == kind and headers["content-security-policy"] == POLICY
        assert b"STOPS" not in body
        assert not [line for line in body.splitlines() if b"//" in line and b"http" in line and b"w3.org" not in line]
    for path in (
        "/page/index.html",
        "/static/page.js",
        "/..%2f..%2fetc/passwd",
        "/page.css/../../app.py",
        "//etc/passwd",
    ):
        assert server.get(path)[0] == 404


def test_the_page_says_that_a_model_restores_nothing(tmp_path, files):
    from driqa_jax.inference.explain import NO_RESTORER

    if MISSING:
        pytest.skip(MISSING)
    scorer = small_scorer()
    scorer.model.restores = False
    with running(scorer) as client, browser(tmp_path) as window:
        window.open(f"http://127.0.0.1:{client.port}/")
        window.type("#choose", str(files[0]))
        all_done(window, 1)
        window.click("#list .row")
        within(60, lambda: window.run("return document.querySelector('.before')?.naturalWidth > 0"))
        assert shown(window, ".below") == [NO_RESTORER]
        assert not window.run("return document.querySelectorAll('.compare, .after, .why input').length")
        assert window.complaints() == []
