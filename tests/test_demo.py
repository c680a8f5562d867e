"""The page of docs/demo in a real browser, behind Python's plain file server: scores as Python gives them, one-line
errors, nothing from or to anywhere else, and a second visit without a server."""

import contextlib
import functools
import http.server
import importlib.util
import json
import pathlib
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("uvicorn", reason="needs the extra serve")

import onnx  # noqa: E402
from browser import MISSING, browser  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from running_server import within  # noqa: E402
from test_decode import swapped_profile  # noqa: E402

from driqa_jax.data.decode import decode  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMES = ["gaussian_blur", "white_noise", "never_heard_of"]
UNLUCKY = 13  # rows of a photo on which the stand-in fails


def load_build():
    spec = importlib.util.spec_from_file_location("demo_build", ROOT / "docs" / "demo" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load_build()
HAVE_RUNTIME = all((build.runtime_folder() / name).exists() for name in build.RUNTIME.values())
NO_PAGE = MISSING or (None if HAVE_RUNTIME else "needs onnxruntime-web: python docs/demo/build.py --fetch")


def stand_in(path, **metadata):
    """A model with the interface of `driqa export -o model.onnx`: the score is the mean luma in percent, blur is that
    of red, noise is that of green, the map is 4 by 6."""
    constants = {
        "luma": np.array([0.299, 0.587, 0.114], np.float32) / 255,
        "percent": np.float32([100]),
        "spread": np.float32([7.5]),
        "size": np.array([4, 6], np.int64),
        "shared": np.array([0, 1], np.int64),
        "unlucky": np.array([UNLUCKY], np.int64),
        "one": np.array([1], np.int64),
        "scale": np.float32([1 / 255]),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["pixels", "luma"], ["gray"]),
        helper.make_node("ReduceMean", ["gray"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "one"], ["flat"]),
        helper.make_node("Mul", ["flat", "percent"], ["points"]),
        # Out of range, and so an error, for photos of UNLUCKY rows alone.
        helper.make_node("Shape", ["image"], ["rows"], start=0, end=1),
        helper.make_node("Equal", ["rows", "unlucky"], ["is_unlucky"]),
        helper.make_node("Cast", ["is_unlucky"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["points", "index"], ["score"]),
        helper.make_node("Identity", ["spread"], ["uncertainty"]),
        helper.make_node("ReduceMean", ["pixels", "shared"], ["colors"], keepdims=0),
        helper.make_node("Mul", ["colors", "scale"], ["findings"]),
        helper.make_node("Mul", ["gray", "percent"], ["gray_points"]),
        helper.make_node("Resize", ["gray_points", "", "", "size"], ["map"], mode="linear", antialias=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["H", "W", 3])
    shapes = {"score": [1], "uncertainty": [1], "findings": [3], "map": ["h", "w"]}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "stand_in", [image], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(
        model, {"degradations": json.dumps(NAMES), "licence": "none", "variant": "stand-in", **metadata}
    )
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def expected(source):
    """What the stand-in says of a file: score and findings."""
    image = decode(source).astype(np.float64) / 255
    return 100 * (image @ [0.299, 0.587, 0.114]).mean(), image.mean((0, 1))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built page."""
    if NO_PAGE:
        pytest.skip(NO_PAGE)
    folder = tmp_path_factory.mktemp("demo")
    assert build.main([str(stand_in(folder / "stand_in.onnx")), "-o", str(folder / "site")]) == 0
    return folder / "site"


class Handler(http.server.SimpleHTTPRequestHandler):
    asked: list

    def log_message(self, *args):
        pass

    def parse_request(self):
        understood = super().parse_request()
        if understood:
            self.asked.append((self.command, self.path))
        return understood


@contextlib.contextmanager
def serving(folder):
    """The address of a plain file server, and the list of what it is asked."""
    asked = []
    handler = functools.partial(type("Recording", (Handler,), {"asked": asked}), directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", asked
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def window(site, tmp_path_factory):
    with serving(site) as (address, _), browser(tmp_path_factory.mktemp("downloads")) as window:
        window.address = address
        yield window


@pytest.fixture
def page(window):
    """A fresh page with its model loaded and warm."""
    window.open(window.address)
    state(window, "warm")
    yield window
    # The runtime says on the console that a model failed, as a test wants it to.
    assert [text for text in window.complaints() if "[E:onnxruntime" not in text] == []


def state(window, wanted, key="state"):
    within(150, lambda: window.run("return document.documentElement.dataset[arguments[0]]", key) == wanted)


def cards(window, files):
    """The cards of the files, once all are done."""
    window.type("#choose", "\n".join(map(str, files)))
    return done(window, len(files))


def done(window, count, seconds=150):
    script = """return [...document.querySelectorAll('#list > :not(.waiting)')].map(card => ({...card.dataset,
        text: card.innerText, name: card.querySelector('bdi').textContent, title: card.querySelector('h3').textContent,
        error: card.querySelector('.error').textContent}))"""
    within(seconds, lambda: len(window.run(script)) == count)
    return window.run(script)


def gradient(height=96, width=144):
    """Dark red at the top left, light at the bottom right, so that a turn or a flip shows."""
    y, x = np.mgrid[:height, :width] / (height + width)
    return np.uint8(np.stack([120 + 130 * (x + y), 30 + 90 * y, 200 * x], axis=2))


@pytest.fixture
def bare(window):
    """The window before it opens a page."""
    window.open("about:blank")
    yield window
    window.complaints()


def problem(window, seconds=150):
    """What the page says at its top once it cannot score anything."""
    within(seconds, lambda: window.run("return !document.getElementById('problem').hidden"))
    assert window.run("return document.getElementById('choose').disabled")
    return window.run("return document.getElementById('problem').textContent")


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def pictures(folder):
    """Files of each kind that browsers read, with the tolerance in points."""
    image = Image.fromarray(gradient())
    alpha = Image.fromarray(np.dstack([gradient(), np.uint8(gradient()[..., 0])]))
    gray = image.convert("L")
    profile = {"icc_profile": swapped_profile()}
    saved = {
        "rgb.png": (image, {}, 0.05),
        "alpha.png": (alpha, {}, 0.2),
        "profile.png": (image, profile, 0.2),
        "palette.png": (image.quantize(16), {}, 0.05),
        "gray.png": (gray, {}, 0.05),
        "turned.png": (image, {"exif": exif(6)}, 0.05),
        "photo.jpg": (image, {"quality": 90}, 0.3),
        "turned.jpg": (image, {"quality": 90, "exif": exif(6)}, 0.3),
        "photo.webp": (image, {"lossless": True}, 0.3),
        "first.gif": (image.quantize(16), {"save_all": True, "append_images": [gray.quantize(16)]}, 0.05),
        "photo.bmp": (image, {}, 0.05),
        "large.png": (Image.fromarray(gradient(1500, 1100)), {"compress_level": 1}, 0.05),
    }
    for name, (picture, options, _) in saved.items():
        picture.save(folder / name, **options)
    return {folder / name: tolerance for name, (_, _, tolerance) in saved.items()}


def test_scores_are_those_of_python(page, tmp_path):
    tolerances = pictures(tmp_path)
    for card, (file, tolerance) in zip(cards(page, tolerances), tolerances.items(), strict=True):
        score, findings = expected(file)
        assert card["name"] == file.name and not card["error"]
        assert float(card["score"]) == pytest.approx(score, abs=tolerance), file.name
        assert json.loads(card["findings"]) == pytest.approx(findings, abs=0.005), file.name
        assert f"{float(card['score']):.1f}" in card["text"] and "± 7.5" in card["text"]


def test_findings_and_the_map_are_shown(page, tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    Image.new("RGB", (60, 40), (40, 50, 60)).save(tmp_path / "dark.png")
    named, quiet = cards(page, [tmp_path / "a.png", tmp_path / "dark.png"])
    assert named["title"] == "This stands out" and "blur" in named["text"] and "72 %" in named["text"]
    assert "Lowest at the top left" in named["text"] and "highest at the bottom right" in named["text"]
    assert quiet["title"] == "Nothing stands out" and "Much the same over the whole photo" in quiet["text"]
    every = "return [...document.querySelector('#list tbody').rows].map(row => row.cells[0].textContent)"
    assert page.run(every) == ["blur", "never heard of", "noise"]
    corners = page.run("""const c = document.querySelector('.map');
        const {data} = c.getContext('2d').getImageData(0, 0, c.width, c.height);
        return [[...data.slice(0, 4)], [...data.slice(-4)]]""")
    from matplotlib import colormaps

    luma = gradient() @ np.array([0.299, 0.587, 0.114]) / 255
    cells = luma.reshape(4, 24, 6, 24).mean((1, 3))
    for found, value in zip(corners, (cells[0, 0], cells[-1, -1]), strict=True):
        assert found[:3] == pytest.approx(np.multiply(colormaps["viridis"](value)[:3], 255), abs=6)
    strength = "return getComputedStyle(document.querySelector('.map')).opacity"
    before = float(page.run(strength))
    page.type("#list .strength input", "\ue012" * 9)  # to the left
    assert 0 < float(page.run(strength)) < before


def test_one_failing_photo_has_one_sentence_and_the_others_go_on(page, tmp_path):
    image = Image.fromarray(gradient())
    image.save(tmp_path / "a.png")
    (tmp_path / "notes.jpg").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    image.save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "half.png").write_bytes((tmp_path / "a.png").read_bytes()[:-200])
    image.resize((20, UNLUCKY)).save(tmp_path / "unlucky.png")
    image.save(tmp_path / "z.png")
    names = ["a.png", "notes.jpg", "empty.png", "half.jpg", "half.png", "unlucky.png", "z.png"]
    found = cards(page, [tmp_path / name for name in names])
    assert [bool(card["error"]) for card in found] == [False, True, True, True, True, True, False]
    assert all("cannot decode the file" in card["error"] for card in found[1:5])
    assert found[5]["error"].startswith("The model failed on this photo (")
    assert found[6]["score"] == found[0]["score"]
    assert page.run("return document.getElementById('summary').textContent") == "7 of 7 done, 5 could not be scored"


def test_the_examples_are_scored(page):
    page.click("#examples")
    for card in done(page, 2):
        assert float(card["score"]) == pytest.approx(expected(ROOT / "examples" / "photos" / card["name"])[0], abs=0.5)


def test_a_browser_without_simd_is_told_so(bare):
    old = "WebAssembly.validate = () => false"
    script = bare.devtools("Page.addScriptToEvaluateOnNewDocument", source=old)["identifier"]
    try:
        bare.open(bare.address)
        assert problem(bare).startswith("This browser has no WebAssembly SIMD")
    finally:
        bare.devtools("Page.removeScriptToEvaluateOnNewDocument", identifier=script)


def without(folder):
    (folder / "model.onnx").unlink()


def truncated(folder):
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-100])


def changed(folder):
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-1] + b"?")


def unbuilt(folder):
    (folder / "model.json").unlink()


def without_runtime(folder):
    (folder / "ort.js").unlink()


FAULTS = {
    without: "model.onnx is missing beside this page (the server answered 404).",
    truncated: "model.onnx is damaged: ",
    changed: "model.onnx is not the file that this page was built with.",
    unbuilt: "model.json is missing beside this page, or damaged.",
    without_runtime: "ort.js is missing beside this page, or damaged.",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_page_whose_files_are_not_whole_says_which(fault, bare, site, tmp_path):
    fault(shutil.copytree(site, tmp_path / "site"))
    with serving(tmp_path / "site") as (address, _):
        bare.open(address)
        assert problem(bare).startswith(FAULTS[fault])


def test_a_second_visit_needs_no_server(bare, site, tmp_path):
    with serving(site) as (address, asked):
        bare.open(address)
        state(bare, "ready", "offline")
        assert {method for method, _ in asked} == {"GET"}
        for large in build.LARGE:
            assert sum(path == f"/{large}" for _, path in asked) == 1
        assert bare.complaints() == []
    bare.open(address)
    state(bare, "warm")
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    (card,) = cards(bare, [tmp_path / "a.png"])
    assert float(card["score"]) == pytest.approx(expected(tmp_path / "a.png")[0], abs=0.05)


def test_nothing_goes_to_another_origin(bare, site):
    """The policy holds for the page and for a worker that is started as the page starts its own."""
    script = """
        const ask = `fetch("${arguments[0]}").then(() => "sent", () => "refused")`;
        const source = new Blob([`${ask}.then(said => postMessage(said))`], {type: "text/javascript"});
        const worker = new Worker(URL.createObjectURL(source), {type: "module"});
        return Promise.all([fetch(arguments[0]).then(() => "sent", () => "refused"),
            new Promise(resolve => { worker.onmessage = ({data}) => resolve(data); })]);"""
    with serving(site) as (address, asked), serving(site) as (other, asked_there):
        bare.open(address)
        state(bare, "warm")
        assert bare.run(script, other) == ["refused", "refused"] and asked_there == []
        known = {"/", "/service_worker.js", "/favicon.ico", *(f"/{file.name}" for file in site.iterdir())}
        assert {path for _, path in asked} <= known


def test_it_fits_a_narrow_window_and_every_control_has_a_name(page, tmp_path):
    Image.fromarray(gradient()).save(tmp_path / f"{'long' * 20}.png")
    page.devtools("Emulation.setDeviceMetricsOverride", width=340, height=700, deviceScaleFactor=1, mobile=False)
    try:
        cards(page, [tmp_path / f"{'long' * 20}.png"])
        assert page.run("return document.documentElement.scrollWidth") <= 340
        nodes = page.devtools("Accessibility.getFullAXTree")["nodes"]
        roles = ("button", "slider", "image", "progressbar", "Button")
        found = [(n["role"]["value"], n["name"]["value"]) for n in nodes if not n["ignored"] and "name" in n]
        found = [(role, name) for role, name in found if role in roles]
        assert {"button", "slider", "image"} <= {role for role, _ in found} and all(name for _, name in found)
    finally:
        page.devtools("Emulation.clearDeviceMetricsOverride")


def refused(capsys, *arguments):
    assert build.main([str(argument) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_a_build_without_a_fitting_model_or_package_says_why(tmp_path, capsys, monkeypatch):
    model = tmp_path / "model.onnx"
    assert f"{model}: No such file" in refused(capsys, model, "-o", tmp_path / "site")
    model.write_bytes(b"no model")
    assert "not an ONNX model, or truncated; write it with: driqa export" in refused(capsys, model)
    stand_in(model, degradations="no list")
    assert "its metadata has no list `degradations`" in refused(capsys, model)
    tree = onnx.load(stand_in(model))
    del tree.graph.output[-1]
    onnx.save(tree, model)
    assert "needs the input image and the outputs score, findings, map" in refused(capsys, model)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "package.tgz").write_bytes(b"another")
    monkeypatch.setattr(build, "URL", (tmp_path / "package.tgz").as_uri())
    assert "not the expected package" in refused(capsys, "--fetch")
    monkeypatch.setattr(build, "URL", (tmp_path / "none.tgz").as_uri())
    assert "cannot be fetched" in refused(capsys, stand_in(model), "-o", tmp_path / "site")
    assert not (tmp_path / "site").exists() and not (tmp_path / "cache").exists()


@pytest.mark.long
def test_a_whole_model_scores_as_in_python(bare, site, tmp_path):
    """Within 0.2 points for lossless files and 1 for JPEG and lossy WebP, whose decoders round differently."""
    from lite_deduction import PHOTOS, model

    from driqa_jax.inference.exports.onnx import file as onnx_file
    from driqa_jax.inference.scorer import Scorer

    files = [tmp_path / f"{pathlib.Path(photo).stem}.png" for photo in PHOTOS]
    for file, photo in zip(files, PHOTOS, strict=True):
        Image.open(photo).crop((0, 0, 512, 384)).save(file, exif=exif(6))
    files += map(pathlib.Path, PHOTOS)
    net, loaded = model()
    onnx_file.save(tmp_path / "model.onnx", loaded, "m")
    assert build.main([str(tmp_path / "model.onnx"), "-o", str(tmp_path / "site")]) == 0
    with serving(tmp_path / "site") as (address, _):
        bare.open(address)
        state(bare, "warm")
        found = cards(bare, files)
    scorer = Scorer(net, loaded.params, loaded.metadata)
    scores = []
    for file, card, result in zip(files, found, scorer.stream(map(str, files)), strict=True):
        tolerance = 0.2 if file.suffix == ".png" else 1
        assert float(card["score"]) == pytest.approx(result.score, abs=tolerance), file.name
        assert float(card["uncertainty"]) == pytest.approx(result.uncertainty, abs=1), file.name
        scores.append(result.score)
    assert np.ptp(scores) > 10
