"""A model as one program: after a reload in a fresh process it says what the scorer says, with nothing but JAX."""

import io
import json
import os
import pathlib
import re
import subprocess
import sys
import zipfile

import jax
import numpy as np
import pytest
from tiny_scorer import METADATA, RULE, tiny_scorer

from driqa_jax.checkpoints.weights import save_weights
from driqa_jax.cli.main import main
from driqa_jax.data.decode import decode
from driqa_jax.data.views import ViewRule, make_view
from driqa_jax.errors import UserError
from driqa_jax.inference.exports import stablehlo
from driqa_jax.inference.scorer import load
from driqa_jax.train.export import export_program

pytestmark = pytest.mark.usefixtures("tiny_variant")
ROOT = pathlib.Path(__file__).resolve().parent.parent
# Runs saved batches through a file in a process that knows nothing of this one.
FRESH = """
import sys
for name in ("flax", "optax", "PIL", "ml_collections", "safetensors", "tensorflow"):
    sys.modules[name] = None
import numpy as np
from driqa_jax.inference.exports import stablehlo
program = stablehlo.load(sys.argv[1])
batches = np.load(sys.argv[2])
found = {}
for tag in sorted({key.split(".")[0] for key in batches}):
    views = {key.split(".")[1]: batches[key] for key in batches if key.startswith(tag + ".")}
    found |= {f"{tag}.{name}": value for name, value in program(views).items()}
np.savez(sys.argv[3], **found)
"""


@pytest.fixture(scope="module")
def scorer():
    return tiny_scorer()


@pytest.fixture(scope="module")
def file(scorer, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "tiny.stablehlo"
    stablehlo.save(path, scorer)
    return path


@pytest.fixture(scope="module")
def program(file):
    return stablehlo.load(file)


def photos():
    return sorted(path for path in (ROOT / "examples" / "photos").iterdir() if path.suffix != ".md")


def stacked(views):
    return {name: np.stack([view[name] for view in views]) for name in views[0]}


def in_a_fresh_process(code, *arguments):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def reloaded(file, batches, folder):
    """What a fresh process says of named batches of views: name -> outputs."""
    arrays = {f"{tag}.{name}": array for tag, views in batches.items() for name, array in views.items()}
    np.savez(folder / "in.npz", **arrays)
    in_a_fresh_process(FRESH, file, folder / "in.npz", folder / "out.npz")
    with np.load(folder / "out.npz") as found:
        return {tag: {key.split(".")[1]: found[key] for key in found if key.startswith(f"{tag}.")} for tag in batches}


@pytest.mark.long
def test_a_fresh_process_with_jax_alone_agrees_at_any_batch_and_canvas(file, scorer, tmp_path):
    images = [decode(path) for path in photos()]
    wide = [image[:300] for image in images]
    views, wide_views = ([make_view(image, RULE) for image in some] for some in (images, wide))
    assert {view["whole"].shape for view in views} != {view["whole"].shape for view in wide_views}
    batches = {f"n{count}": stacked(views[:count]) for count in (1, 3, 8)} | {"wide": stacked(wide_views[:3])}
    found = reloaded(file, batches, tmp_path)
    expected = np.array(list(scorer.predict(images[:8])))
    for count in (1, 3, 8):
        np.testing.assert_allclose(found[f"n{count}"]["mos"], expected[:count], atol=1e-5)
        np.testing.assert_allclose(found[f"n{count}"]["score"], scorer(images[:count]), atol=0.0051)
    np.testing.assert_allclose(found["wide"]["mos"], list(scorer.predict(wide[:3])), atol=1e-5)
    np.testing.assert_array_equal(found["wide"]["patch_weights"] > 0, np.broadcast_to(True, (3, 2, 3)))
    assert np.ptp(expected) > 1e-3

    batch = batches["n3"]
    mos, out = jax.jit(scorer.model.apply)(
        {"params": scorer.params}, batch["whole"] / np.float32(255), batch["valid"],
        batch["tiles"] / np.float32(255), batch["tile_boxes"],
    )  # fmt: skip
    out["degradations"] = 1 / (1 + np.exp(-out["degradation_logits"]))
    for name in ("degradations", "severity", "patch_scores", "patch_weights"):
        np.testing.assert_allclose(found["n3"][name], out[name], atol=1e-5, err_msg=name)


def test_the_documented_code_gives_the_score_without_this_package(file, scorer):
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "EXPORT.md").read_text(), re.DOTALL)[-1]
    photo = ROOT / "examples" / "photos" / "dog.jpg"
    said = in_a_fresh_process("import sys; sys.modules['driqa_jax'] = None\n" + code, file, photo)
    assert float(said) == pytest.approx(scorer(photo), abs=0.006)


def test_the_file_says_what_it_is_and_loses_no_weight(file, scorer, program):
    assert program.metadata["format"] == stablehlo.FORMAT
    for key in ("variant", "licence", "view", "calibration", "degradations", "provenance"):
        assert program.metadata[key] == METADATA[key], key
    assert program.metadata["sha256"] == scorer.sha256 and program.metadata["model"] == "tiny"
    assert program.platforms == ("cpu", "cuda", "tpu")
    # The random weights are no float16 numbers; those of a weights file are, and take half the room.
    assert stablehlo._smallest(np.float32([0.1])).dtype == np.float32
    assert stablehlo._smallest(np.float32([0.5, np.float16(0.1)])).dtype == np.float16


def test_invalid_inputs_are_refused_by_name(program):
    good = stacked([make_view(np.zeros((64, 64, 3), np.uint8), RULE)] * 2)
    for name, wrong in {
        "tiles": good["tiles"][:1],
        "valid": good["valid"].astype(np.int64),
        "tile_boxes": good["tile_boxes"][:, :3],
        "whole": good["whole"][..., :1],
    }.items():
        with pytest.raises(ValueError, match=f"^{name} is {wrong.dtype}"):
            program({**good, name: wrong})
    with pytest.raises(ValueError, match="multiples of 32"):
        program({**good, "whole": good["whole"][:, :40]})
    with pytest.raises(ValueError, match="views lack valid"):
        program({name: good[name] for name in ("whole", "tiles", "tile_boxes")})
    with pytest.raises(ValueError, match="at least 1"):
        program({name: array[:0] for name, array in good.items()})


def test_files_that_are_not_exports_are_refused(file, tmp_path):
    whole = file.read_bytes()
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr(stablehlo.METADATA, json.dumps({"format": "something/9"}))
        archive.writestr(stablehlo.PROGRAM, b"")
    program = io.BytesIO()
    with zipfile.ZipFile(program, "w") as archive:
        archive.writestr(stablehlo.METADATA, json.dumps({"format": stablehlo.FORMAT, "jax": "9.9"}))
        archive.writestr(stablehlo.PROGRAM, b"no program")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    cases = {
        "cut": (whole[: len(whole) // 2], "not a whole export"),
        "flipped": (bytes(flipped), "not a whole export"),
        "text": (b"hello", "not a whole export"),
        "other": (other.getvalue(), "something/9.*expected"),
        "program": (program.getvalue(), "JAX 9.9 wrote"),
    }
    for name, (content, said) in cases.items():
        path = tmp_path / f"{name}.stablehlo"
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}\.stablehlo: .*{said}"):
            stablehlo.load(path)
    with pytest.raises(UserError, match="absent.stablehlo: cannot be read"):
        stablehlo.load(tmp_path / "absent.stablehlo")


def test_command_exports_a_weights_file_and_keeps_its_licence(scorer, tmp_path, capsys):
    weights, out = tmp_path / "w.safetensors", tmp_path / "w.stablehlo"
    save_weights(weights, jax.device_get(scorer.params), {**METADATA, "licence": "mine alone"})
    assert main(["export", "--model", str(weights), "-o", str(out)]) == 0
    assert re.fullmatch(r"sha256 [0-9a-f]{64}\n", capsys.readouterr().out)
    metadata = stablehlo.load(out).metadata
    assert metadata["licence"] == "mine alone" and metadata["model"] == "w.safetensors"
    with pytest.raises(UserError, match="keep their licence"):
        export_program(weights, out, licence="theirs")


def test_command_says_what_is_wrong(tmp_path, capsys):
    (tmp_path / "w.safetensors").write_bytes(b"x")
    for model, out, extra, said in [
        ("lite", "x.bin", [], "must be one of .safetensors, .stablehlo, .onnx"),
        ("lite", "void/x.stablehlo", [], "does not exist; create it first"),
        ("lite", "x.stablehlo", ["--data-path", "d"], "--data-path goes with .safetensors"),
        ("lite", "x.safetensors", [], "lite: this is already a calibrated weights file"),
        (
            str(tmp_path / "w.safetensors"),
            "x.safetensors",
            [],
            "w.safetensors: this is already a calibrated weights file",
        ),
        ("nonesuch", "x.stablehlo", [], "no model 'nonesuch'"),
        ("nonesuch", "x.safetensors", [], "nonesuch"),
    ]:
        assert main(["export", "--model", model, "-o", str(tmp_path / out), *extra]) == 2
        assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.long
def test_bundled_model_agrees_below_1e_4_on_the_example_photos(tmp_path):
    out = tmp_path / "lite.stablehlo"
    assert main(["export", "--model", "lite", "-o", str(out)]) == 0
    scorer = load(runtime="jax")
    rule = ViewRule.from_dict(scorer.metadata["view"])
    images = [decode(path) for path in photos()]
    images[1], images[2] = images[1][:300], images[2][:, :300]
    mos, scores = np.array(list(scorer.predict(images))), scorer(images)
    views = [make_view(image, rule) for image in images]
    batches, rows = {}, {}
    for canvas in sorted({view["whole"].shape for view in views}):
        same = [i for i, view in enumerate(views) if view["whole"].shape == canvas]
        for size in (1, 3, 8):
            for start in range(0, len(same), size):
                some = [same[(start + k) % len(same)] for k in range(size)]
                tag = f"{canvas[0]}x{canvas[1]}n{size}at{start}"
                batches[tag], rows[tag] = stacked([views[i] for i in some]), some
    for tag, found in reloaded(out, batches, tmp_path).items():
        np.testing.assert_allclose(found["mos"], mos[rows[tag]], atol=5e-5, rtol=0, err_msg=tag)
        np.testing.assert_allclose(found["score"], scores[rows[tag]], atol=0.0051, rtol=0, err_msg=tag)
