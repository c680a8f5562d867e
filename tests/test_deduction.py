"""The form "deduction": it goes everywhere that a model goes, and its score, map and findings are its deductions."""

import io
import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from fake_model import picture
from PIL import Image
from tiny_model import random_params, tiny, views_of_noise

import driqa_jax
from driqa_jax.checkpoints.weights import load_weights, save_weights
from driqa_jax.cli.main import main
from driqa_jax.data.synthetic import FakeSource
from driqa_jax.data.views import ViewRule, make_view
from driqa_jax.degradations import NAMES
from driqa_jax.errors import UserError
from driqa_jax.evaluation.correlations import srcc
from driqa_jax.evaluation.examination import Examiner
from driqa_jax.inference.conformal import evidence, tile_spread
from driqa_jax.inference.explain import NO_RESTORER
from driqa_jax.inference.exports import stablehlo
from driqa_jax.inference.program import PREDICTIONS, VIEWS, make_stages
from driqa_jax.models.deduction import FLOOR, SHRINKAGE, VISIBLE, soft_minimum
from driqa_jax.models.driqa import build_model
from driqa_jax.models.summary import cost
from driqa_jax.reports.explanation_png import sheet
from driqa_jax.reports.html import explanation_values, page
from driqa_jax.train.config import default
from driqa_jax.train.export import export_program
from driqa_jax.train.initialization import with_model
from experiments.deduction import __main__ as experiment
from experiments.deduction import comparison, examples, teacher, training, visible
from experiments.deduction import encoder as tuning
from experiments.deduction.drops import Examples
from experiments.deduction.features import RULE, TILES, Encoders, Named
from experiments.deduction.fit import fit
from experiments.deduction.level import Rated

pytestmark = pytest.mark.usefixtures("tiny_variant")
SMALL = ViewRule(short=64, long=96, tile=32, tiles=4, canvases=((64, 64), (64, 96)))
TYPES, SHARES = ["motion_blur", "white_noise", "jpeg"], [1.0, 0.5, 1.0]
HEAD = {"level_width": 8, "drop_width": 8, "shares": SHARES, "top": 0.9}
CONFIG = {"variant": "tiny", "form": "deduction", "types": TYPES, "dropout": 0.0, "statistics": False, "head": HEAD}
METADATA = {
    "variant": "tiny",
    "licence": "Apache-2.0",
    "config": CONFIG,
    "view": SMALL.to_dict(),
    "calibration": {"low": 0.0, "span": 1.0, "centre": 0.3, "width": 0.7},
    "interval": {"level": 0.9, "factor": 1.5, "floor": 0.02},
    "degradations": TYPES,
    "provenance": {"steps": 3},
}


def built(**changes):
    return tiny(ml_collections.ConfigDict({**CONFIG, **changes}))


@pytest.fixture(scope="module")
def model():
    return built()


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "new.safetensors"
    save_weights(path, random_params(model), METADATA)
    return path


@pytest.fixture(scope="module")
def scorer(file):
    return driqa_jax.load(file, cache=None)


@pytest.fixture(scope="module")
def image():
    return picture(70, 90, 1)


def gelu(x):
    return np.asarray(jax.nn.gelu(x))


def by_hand(params, view, shares=SHARES, top=0.9):
    """MOS and per-tile MOS of one view by the formulas of the method page, from what the encoders give; the
    drops that are seen."""
    head = params["head"]

    def dense(x, layer):
        return x @ head[layer]["kernel"] + head[layer]["bias"]

    def standard(x, layer):
        return np.clip((x - head[layer]["shift"]) * head[layer]["scale"], -8, 8)

    def scored(kept):
        return soft_minimum(level, FLOOR + (top - FLOOR) * kept, 0.03)

    model = built()
    views = {key: np.asarray(value)[None] for key, value in view.items()}
    views |= {key: views[key] / np.float32(255) for key in ("whole", "tiles")}
    quality = model.apply({"params": params}, views, method="read_quality")
    vector = np.asarray(model.apply({"params": params}, views, method="read_degradation")["vector"][0])
    moments = np.asarray(quality["moments"])
    level = dense(gelu(dense(standard(moments, "standardize_moments"), "level_hidden")), "level_out")[0, 0]
    rows, columns = view["valid"] // 32
    cells = standard(np.asarray(quality["cells"])[0, :rows, :columns].reshape(rows * columns, -1), "standardize_cells")
    y, x = np.mgrid[0:rows, 0:columns].reshape(2, -1, 1)
    y0, x0, y1, x1 = view["tile_boxes"].T
    far = (((y + 0.5) / rows - (y0 + y1) / 2) / (y1 - y0)) ** 2 + (
        ((x + 0.5) / columns - (x0 + x1) / 2) / (x1 - x0)
    ) ** 2
    near = np.exp(-8 * far) / np.exp(-8 * far).sum(axis=1, keepdims=True)
    central = np.exp(-((((y + 0.5) / rows - 0.5) / 0.15) ** 2 + (((x + 0.5) / columns - 0.5) / 0.15) ** 2) / 2)
    middle = (central * cells).sum(axis=0) / central.sum()
    image = np.concatenate([cells.mean(axis=0), middle])
    hidden = dense(cells, "drop_of_cells") + dense(dense(image, "drop_context"), "drop_of_context")
    hidden = hidden + near @ dense(standard(vector, "standardize_vectors"), "drop_of_vectors")
    drops = 1 / (1 + np.exp(-dense(gelu(hidden), "drop_out")))
    lost = -np.log1p(-drops)
    cell_lost = (lost * np.array(shares)).sum(axis=1)
    alone = (near * cell_lost[:, None]).sum(axis=0) / near.sum(axis=0)
    parts = [scored(np.exp(-(np.mean(cell_lost**3) ** (1 / 3)))), *scored(np.exp(-alone))]
    return np.array(parts), 1 - (1 - drops.reshape(rows, columns, -1)) ** SHRINKAGE


def test_restoration_and_interaction_are_absent_and_every_output_has_its_shape(model):
    params = random_params(model)
    assert set(params) == {"degradation_encoder", "quality_encoder", "head"}
    assert set(params["quality_encoder"]) == {"backbone"}
    whole, _, tiles, boxes = views_of_noise(batch=2, tiles=3)
    valid = np.array([[64, 32]] * 2, np.int32)
    mos, out = model.apply({"params": params}, whole, valid, tiles, boxes)
    assert {name: value.shape for name, value in out.items()} == {
        **{name: (2,) for name in ("level", "ceiling")},
        **{name: (2, 2, 2) for name in ("patch_scores", "patch_weights", "patch_mask")},
        **{name: (2, 3) for name in ("degradation_logits", "severity", "visibility")},
        "drops": (2, 2, 2, 3),
        "cell_visibility": (2, 2, 2, 3),
        "cells": (2, 2, 2, 16),
        "d": (2, 32),
        "q": (2, 8),
        "moments": (2, 32),
        "vector": (2, 3, 32),
        "per_tile_mos": (2, 3),
        "per_tile_ceiling": (2, 3),
    }
    assert mos.shape == (2,) and np.all(mos < out["level"]) and np.all(mos < out["ceiling"])
    np.testing.assert_array_equal(out["patch_weights"], np.tile([[[1, 0], [1, 0]]], (2, 1, 1)))
    filled = whole.copy()
    filled[:, :, 32:] = 1e4
    np.testing.assert_allclose(model.apply({"params": params}, filled, valid, tiles, boxes)[0], mos, atol=1e-5)


def test_the_score_is_the_head_applied_by_hand(scorer, image):
    expected, drops = by_hand(jax.device_get(scorer.params), make_view(image, scorer.rule))
    ((found, shown),) = scorer.predict_parts([image])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert shown == evidence(70, 90, scorer.rule)
    mos, out = scorer.apply(image[None] / np.float32(255))
    np.testing.assert_allclose(mos[0], expected[0], atol=1e-4)
    rows, columns = drops.shape[:2]
    np.testing.assert_allclose(out["drops"][0, :rows, :columns], drops, atol=1e-3)
    one, (result,) = scorer(image), scorer.stream([image])
    assert one == result.score == pytest.approx(100 * scorer.calibration(expected[0]), abs=0.01)
    spread = tile_spread(scorer.calibration(expected[1:]))
    assert result.uncertainty == pytest.approx(100 * scorer.interval(spread, shown), abs=0.01)


def test_stages_give_what_the_whole_model_gives_at_every_effort(file, image):
    for effort, tiles in (("fast", 1), ("default", 4), ("accurate", 9)):
        scorer = driqa_jax.load(file, cache=None, effort=effort)
        (prediction,) = scorer.predict([image])
        mos, out = scorer.apply(image[None] / np.float32(255))
        np.testing.assert_allclose(prediction, mos[0], atol=1e-4)
        assert out["per_tile_mos"].shape == (1, tiles)
    assert len(make_stages(scorer.model, False, cpu=True)) == 3


def planted_drop(params):
    """Parameters whose drop of the first type is large for a vector or a cell of fives and small for zeros."""
    head = dict(params["head"])
    for name, inputs in (("vectors", "standardize_vectors"), ("cells", "standardize_cells")):
        width = head[f"drop_of_{name}"]["kernel"].shape[0]
        head[inputs] = {"shift": np.zeros(width, np.float32), "scale": np.ones(width, np.float32)}
        head[f"drop_of_{name}"] = {"kernel": np.ones((width, 8), np.float32) / width, "bias": np.zeros(8, np.float32)}
    head["drop_of_context"] = jax.tree.map(np.zeros_like, head["drop_of_context"])
    head["drop_out"] = {
        "kernel": np.full((8, 3), 0.12, np.float32) * np.float32([1, 0, 0]),
        "bias": np.float32([-4, -9, -9]),
    }
    head["level_out"] = {"kernel": np.zeros((8, 1), np.float32), "bias": np.float32([0.8])}
    return {**params, "head": head}


@pytest.mark.parametrize("where", ["vector", "cells"])
def test_the_map_is_lower_where_a_tile_or_a_cell_has_a_drop(model, where):
    params = planted_drop(random_params(model))
    corners = np.array([[y, x] for y in (0, 0.5) for x in (0, 0.5)], np.float32)
    found = {"vector": np.zeros((1, 4, 32), np.float32), "cells": np.zeros((1, 4, 4, 16), np.float32)}
    sound = {
        "whole": np.zeros((1, 128, 128, 3), np.float32),
        "valid": np.array([[128, 128]], np.int32),
        "tile_boxes": np.concatenate([corners, corners + 0.5], axis=1)[None],
        "moments": np.zeros((1, 32), np.float32),
        **found,
    }
    faulty = {key: value.copy() for key, value in sound.items()}
    faulty[where][(0, 3) if where == "vector" else np.s_[0, 2:, 2:]] = 5.0
    before, _ = model.apply({"params": params}, sound, method="read_score")
    mos, out = model.apply({"params": params}, faulty, method="read_score")
    drop = np.asarray(out["drops"])[0, ..., 0]
    assert drop[3, 3] > 0.6 and drop[:2, :2].max() < 0.1 and drop[2:, 2:].min() > 0.3
    cells = np.asarray(out["patch_scores"])[0]
    assert cells[2:, 2:].max() < cells[:2, :2].min() - 0.15
    alone = np.asarray(out["per_tile_mos"])[0]
    assert alone[3] < mos[0] < alone[0] and mos[0] < before[0]
    everywhere = {**sound, where: np.full_like(sound[where], 5.0)}
    even, out = model.apply({"params": params}, everywhere, method="read_score")
    np.testing.assert_allclose(out["patch_scores"], np.full((1, 4, 4), even[0]), atol=1e-5)
    assert even[0] < mos[0]


def test_findings_are_ordered_by_what_a_person_sees(scorer, image):
    found = scorer.explain(image, "some.jpg")
    prominence = [one.prominence for one in found.degradations]
    assert prominence == sorted(prominence, reverse=True)
    by_name = {one.name: one for one in found.degradations}
    assert found.named(prominence[1]) == found.degradations[:2]
    assert json.loads(json.dumps(found.to_dict()))["degradations"][0]["visibility"] == round(prominence[0], 4)
    view = {key: np.asarray(value)[0] for key, value in zip(VIEWS, explained_views(scorer, image), strict=True)}
    pixels = {key: np.rint(view[key] * 255).astype(np.uint8) for key in ("whole", "tiles")}
    _, drops = by_hand(jax.device_get(scorer.params), {**view, **pixels})
    lost = -np.log1p(-drops.reshape(-1, len(TYPES)))
    drop = 1 - np.exp(-(np.mean(lost**3, axis=0) ** (1 / 3)))
    visible = 1 / (1 + np.exp(-(drop - VISIBLE) / 0.1))
    np.testing.assert_allclose([by_name[name].visibility for name in TYPES], visible, atol=1e-4)
    np.testing.assert_allclose([by_name[name].severity for name in TYPES], drop, atol=1e-4)


def explained_views(scorer, image):
    rule = ViewRule(**{**scorer.rule.to_dict(), "tiles": scorer.model.explained_tiles})
    view = {key: np.asarray(value)[None] for key, value in make_view(image, rule).items()}
    return view["whole"] / 255.0, view["valid"], view["tiles"] / 255.0, view["tile_boxes"]


def test_an_explanation_says_that_nothing_is_restored(scorer, image):
    found = scorer.explain(image, "some.jpg")
    assert found.score == scorer(image) and found.restored is None and found.not_restored == NO_RESTORER
    assert found.quality_map.shape == found.weights.shape == (2, 3)
    np.testing.assert_allclose(found.weights, 1 / 6, atol=1e-6)
    with Image.open(io.BytesIO(sheet(found, threshold=0.0))) as drawn:
        assert drawn.format == "PNG"
    values = explanation_values(found, 200, 100)
    html = page("explain.html.j2", {}, title="t", photos=[values], failed=[], links=[], threshold=0.5).decode()
    assert NO_RESTORER in html and "restored by the model" not in html
    features = scorer.features([image, image[:, ::-1]])
    assert features["d"].shape == (2, 32) and features["q"].shape == (2, 8)


def test_the_server_answers_without_a_restored_image(scorer, image):
    pytest.importorskip("fastapi", reason="needs the extra serve")
    from running_server import encoded, running

    with running(scorer) as server:
        status, _, said = server.send("/v1/explain", [("a.png", encoded(image))])
    assert status == 200
    (entry,) = said["results"]
    assert entry["score"] == scorer(image) and entry["images"]["restored"] is None
    assert entry["images"]["quality_map"].startswith("data:image/webp")


def test_a_stablehlo_file_scores_as_the_scorer(file, scorer, image, tmp_path):
    export_program(file, tmp_path / "new.stablehlo")
    view = {key: np.asarray(value)[None] for key, value in make_view(image, scorer.rule).items()}
    found = stablehlo.load(tmp_path / "new.stablehlo")(view)
    assert found["score"][0] == pytest.approx(scorer(image), abs=0.01)
    assert found["patch_scores"].shape == (1, 2, 3) and found["degradations"].shape == (1, 3)


@pytest.mark.long
def test_the_gradient_reaches_the_pixels_and_the_loss_is_of_the_score(scorer):
    images = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    gradient = np.asarray(jax.grad(lambda x: scorer.apply(x)[0].sum())(images))
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    (loss, slope) = jax.value_and_grad(scorer.quality_loss())(images)
    assert 0 < loss < 1 and np.isfinite(slope).all()
    same, _ = driqa_jax.apply(scorer.params, images, scorer.metadata["config"], scorer.rule)
    np.testing.assert_allclose(same, scorer.apply(images)[0], atol=1e-6)


def test_the_command_line_takes_the_file(file, scorer, image, tmp_path, capsys):
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    assert main(["score", str(path), "--model", str(file), "-o", str(tmp_path / "s.jsonl")]) == 0
    assert json.loads((tmp_path / "s.jsonl").read_text())["score"] == scorer(image)
    assert main(["explain", str(path), "--model", str(file), "-o", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    assert NO_RESTORER in (tmp_path / "out" / "index.html").read_text()


def test_what_needs_a_restorer_says_so(scorer):
    with pytest.raises(UserError, match="has no restoration network.*lite-0.5"):
        Examiner(scorer.model, scorer.params, TYPES, np.zeros((2, 32, 32, 3), np.uint8))


def test_a_training_that_starts_from_this_form_names_what_it_can_start_from(file):
    config = default()
    config.init, config.model.variant = str(file), "tiny"
    with pytest.raises(UserError, match=r"new\.safetensors: has the form 'deduction'.*lite-0\.5.*`driqa fit`"):
        with_model(config)


def test_wrong_forms_and_types_are_refused():
    with pytest.raises(ValueError, match="model.form must be one of interaction, deduction, got 'sum'"):
        built(form="sum")
    with pytest.raises(ValueError, match="shares must be empty or have 3 values, got 2"):
        random_params(built(head={**HEAD, "shares": [1.0, 0.5]}))


def test_the_product_form_keeps_its_budget():
    config = {**CONFIG, "variant": "lite", "types": list(visible.TYPES), "statistics": True, "head": experiment.HEAD}
    whole = cost(build_model(ml_collections.ConfigDict(config)), (384, 512), RULE.tile, RULE.tiles)
    assert whole.parameters <= 7e6 and whole.multiply_adds <= 2.2e9, whole


def test_a_fit_becomes_a_file_that_scores_as_the_head(model, tmp_path):
    encoders = {name: random_params(model)[name] for name in ("degradation_encoder", "quality_encoder")}
    source = FakeSource(40, size=64)
    seen = Encoders(model, encoders, SMALL)
    moments = np.stack([seen(np.asarray(Image.open(io.BytesIO(x))))["moments"] for x in source.images()])
    rng = np.random.default_rng(0)
    sizes = {"cells": (8, 16), "vectors": (4, 32), "near": (8, 4), "central": (8,), "area": (8,)}
    examples = Examples(
        moments=moments,
        **{name: rng.random((40, *size), np.float32) for name, size in sizes.items()},
        base=source.column("mos").astype(np.float32),
        types=rng.integers(-1, 3, 40),
        drops=rng.uniform(0.2, 0.8, 40).astype(np.float32),
        kinds=np.array(["kadid", "rated"] * 20),
        faults=np.full((40, 3), np.nan, np.float32),
        doubtful=np.zeros(40, bool),
    )
    recipe = training.Recipe(epochs=20, batch=8, rate=1e-2, steps=20, drop_batch=8)
    rated = Rated(moments, source.column("mos").astype(np.float32))
    params = {**encoders, "head": fit(model.head, rated, examples, [1.0] * 3, recipe)}
    path = tmp_path / "fit.safetensors"
    config = ml_collections.ConfigDict(CONFIG)
    values = experiment.write(path, params, config, SMALL, source, "none", {"fit": {"seed": 0}})
    assert values["n"] == 40 and values["srcc"] > 0.5
    scorer = driqa_jax.load(path, cache=None)
    assert scorer.interval is not None and scorer.calibration.width is not None and scorer.model == model
    stored, metadata = load_weights(path)
    assert metadata["provenance"]["validation"]["n"] == 40
    for photo in (picture(64, 64, 3), picture(70, 90, 1)):
        expected, _ = by_hand(stored, make_view(photo, scorer.rule))
        np.testing.assert_allclose(next(scorer.predict_parts([photo]))[0], expected, atol=1e-5)


def test_kept_features_are_those_of_the_scorer_and_only_what_is_asked_for(model, tmp_path, image):
    params = random_params(model)
    quality = {"quality_encoder": params["quality_encoder"]}  # the other encoder is not needed
    photos = {"a": image, "b": picture(64, 64, 2)}
    rated = Named("rated", list(photos), photos.get, str.encode)
    kept = Encoders(model, quality, SMALL, tmp_path).moments(rated)
    assert kept.shape == (2, 32)
    again = Encoders(model, quality, SMALL, tmp_path)
    never = lambda name: pytest.fail("computed again")  # noqa: E731
    np.testing.assert_array_equal(again.moments(rated._replace(image=never)), kept)
    changed = again.moments(Named("rated", ["a"], lambda _: photos["b"], lambda _: b"another file"))
    np.testing.assert_array_equal(changed[0], kept[1])
    view = {key: jnp.asarray(value)[None] for key, value in make_view(image, SMALL).items()}
    out = model.apply(
        {"params": params}, view["whole"] / 255.0, view["valid"], view["tiles"] / 255.0, view["tile_boxes"]
    )[1]
    np.testing.assert_allclose(kept[0], out["moments"][0], rtol=2e-3, atol=2e-3)
    both = Encoders(model, params, SMALL)(image)
    np.testing.assert_allclose(both["vector"], out["vector"][0], rtol=2e-3, atol=2e-3)
    rows, columns = both["cells"].shape[:2]
    np.testing.assert_allclose(both["cells"], out["cells"][0, :rows, :columns], rtol=2e-3, atol=2e-3)
    assert both["vector"].dtype == np.float16 and PREDICTIONS not in both
    early = Encoders(model, params, SMALL)(image, ["vector", *TILES])
    np.testing.assert_allclose(early["vector"], out["vector"][0], rtol=2e-3, atol=2e-3)
    assert set(early) == {"tile_maps", "tile_moments", "vector", "boxes"}  # this encoder has no statistics


class MeanColor:
    """Stands for the second backbone."""

    def __init__(self, path):
        self.key = {"model": "mean color"}

    def __call__(self, image):
        return image.mean(axis=(0, 1)).astype(np.float16)


@pytest.mark.long
def test_the_command_writes_a_model_and_resumes_from_kept_features(model, tmp_path, monkeypatch, capsys):
    base = {"variant": "tiny", "types": list(NAMES), "dropout": 0.0, "statistics": False}
    encoder = tmp_path / "encoder.safetensors"
    whole = random_params(tiny(ml_collections.ConfigDict(base)))
    save_weights(encoder, whole, {**METADATA, "config": base, "degradations": list(NAMES)})
    (tmp_path / "pristine").mkdir()
    source = FakeSource(24, size=64)
    for i, data in enumerate(source.images()):
        (tmp_path / f"{i}.png").write_bytes(data)
    rows = [f"{i}.png,{mos:.3f}" for i, mos in enumerate(source.column("mos"))]
    (tmp_path / "rated.csv").write_text("\n".join(["image,mos", *rows, ""]))
    for seed in range(2):
        Image.fromarray(picture(64, 64, seed)).save(tmp_path / "pristine" / f"{seed}.png")
    backbone = whole["quality_encoder"]["backbone"]
    monkeypatch.setattr(experiment, "imagenet_weights", lambda: (backbone, None))
    monkeypatch.setattr(examples, "SHAPES", ((64, 64),) * 3)
    monkeypatch.setattr(experiment, "COUNTS", dict.fromkeys(examples.KINDS, 2) | {"kadid": 4, "rated": 4})
    monkeypatch.setattr(experiment, "RECIPE", training.Recipe(epochs=2, batch=8, models=3, steps=3))
    monkeypatch.setattr(experiment, "TUNING", tuning.Recipe(steps=3, batch=8))
    monkeypatch.setattr(experiment, "RULE", SMALL)
    arguments = ["--rated", tmp_path / "rated.csv", "--pristine", tmp_path / "pristine", "--encoder", encoder]
    arguments += ["--features", tmp_path / "features", "--licence", "CC0-1.0", "--unlabeled", tmp_path / "rated.csv"]
    (tmp_path / "seen.csv").write_text("image,groups\n0.png,blur none\n1.png,none\n")
    arguments += ["--seen", tmp_path / "seen.csv"]
    monkeypatch.setattr(experiment, "POOL", 30)
    monkeypatch.setattr(teacher, "SecondBackbone", MeanColor)
    monkeypatch.setattr(teacher, "installed", lambda: "none")
    files = [tmp_path / f"{name}.safetensors" for name in "ab"]
    assert experiment.main([*map(str, arguments), "-o", str(files[0])]) == 0
    monkeypatch.setattr(Encoders, "__call__", lambda *_: pytest.fail("computed again"))
    assert experiment.main([*map(str, arguments), "-o", str(files[1])]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    losses = [json.loads(line) for line in (tmp_path / "a/metrics.jsonl").read_text().splitlines()]
    assert {key for line in losses for key in line} == {
        *("step", "loss of the encoder", "loss of the drops"),
        *(f"loss of level {number}" for number in (1, 2, 3)),
    }
    capsys.readouterr()
    metadata = load_weights(files[0])[1]
    assert metadata["licence"] == "CC0-1.0" and metadata["view"] == SMALL.to_dict()
    assert metadata["degradations"] == list(visible.TYPES)
    assert metadata["provenance"]["images"] == 22 and metadata["provenance"]["seen"] == 2
    assert metadata["provenance"]["taught"] == {"images": 30, "second_backbone": "mean color"}
    scores = driqa_jax.load(files[0], cache=None)([picture(64, 64, 5), picture(70, 90, 6)])
    assert np.all((scores >= 0) & (scores <= 100))


@pytest.mark.long
def test_the_comparison_sets_the_model_beside_what_it_is_built_on(file, tmp_path, monkeypatch, capsys):
    backbone = driqa_jax.load(file, cache=None).params["quality_encoder"]["backbone"]
    monkeypatch.setattr(experiment, "imagenet_weights", lambda: (backbone, None))
    monkeypatch.setattr(comparison, "RULE", SMALL)
    monkeypatch.setattr(teacher, "SecondBackbone", MeanColor)
    monkeypatch.setattr(teacher, "installed", lambda: "none")
    rows = ["image,mos"]
    for number in range(20):
        Image.fromarray(picture(64, 64, number)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{number / 20}")
    (tmp_path / "rated.csv").write_text("\n".join(rows))
    (tmp_path / "set.csv").write_text("\n".join(rows[:1] + rows[-6:]))
    table = tmp_path / "comparison.md"
    arguments = ["--rated", tmp_path / "rated.csv", "--set", f"some={tmp_path / 'set.csv'}", "--model", file]
    arguments += ["--features", tmp_path / "features", "-o", table]
    assert comparison.main([*map(str, arguments)]) == 0
    heads, _, some, mean = (line.strip("| ").split(" | ") for line in table.read_text().splitlines()[2:])
    assert heads[2:] == [str(file), *(head for name in comparison.NAMES for head in (name, "difference"))]
    assert some[:2] == ["some", "6"] and "none" not in some and mean[:2] == ["mean", "6"]
    images = [(tmp_path / f"{number}.png").read_bytes() for number in range(14, 20)]
    expected = srcc(np.array(list(driqa_jax.load(file, cache=None).predict(images))), np.arange(6.0))
    assert float(some[2].split()[0]) == pytest.approx(expected, abs=6e-4)
    capsys.readouterr()


def test_a_list_of_faults_that_somebody_saw_is_checked(tmp_path):
    path = tmp_path / "seen.csv"
    path.write_text("image,groups\na.jpg,blur noise\nb.jpg,none\n")
    assert experiment.read_seen(path) == {"a.jpg": ("blur", "noise"), "b.jpg": ("none",)}
    for text, said in [
        ("image,groups\na.jpg,blurry\n", "a.jpg has the groups 'blurry'; give some of blur, color"),
        ("image,groups\na.jpg,\n", "a.jpg has the groups ''"),
        ("image,mos\na.jpg,1\n", "needs the columns image and groups"),
    ]:
        path.write_text(text)
        with pytest.raises(UserError, match=said):
            experiment.read_seen(path)
