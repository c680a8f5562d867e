"""The ViT backbone: numpy's and Pillow's answer, padding that changes nothing, public files, a training from one.

Beside the public network at full size: test_vit_public.py.
"""

import fnmatch
import functools
import pathlib

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from scipy.special import erf
from vit_tensors import as_augreg

from driqa_jax.checkpoints.load import expected_params, load
from driqa_jax.checkpoints.weights import flatten, save_weights
from driqa_jax.degradations import NAMES
from driqa_jax.errors import UserError
from driqa_jax.inference import scorer
from driqa_jax.models import driqa
from driqa_jax.models.pretrained import read_vit
from driqa_jax.models.quality_encoder import QualityEncoder
from driqa_jax.models.restoration import RestorationNet
from driqa_jax.models.vit import ViT, positions_at
from driqa_jax.train import initialization, loop, optim
from driqa_jax.train.config import default, read

ROOT = pathlib.Path(__file__).resolve().parent.parent
WIDTH, HEADS, LEVELS = 32, 2, (1, 2)
TINY = ViT(WIDTH, HEADS, LEVELS)
SIZES = ((96, 128), (64, 32), (32, 96))  # rows and columns of three pictures
CANVAS, LARGER = (96, 128), (128, 160)


@pytest.fixture(scope="module")
def tensors():
    """Random tensors of the tiny ViT under timm's names; no bias 0, no scale 1."""
    rng = np.random.default_rng(0)
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 197, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, 16, 16),
        "head.weight": (7, WIDTH),
    }
    weights = {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH)}
    weights |= {"mlp.fc1": (4 * WIDTH, WIDTH), "mlp.fc2": (WIDTH, 4 * WIDTH)}
    vectors = {"patch_embed.proj.bias": WIDTH, "norm.weight": WIDTH, "norm.bias": WIDTH, "head.bias": 7}
    for block in range(LEVELS[-1]):
        for name, shape in weights.items():
            shapes[f"blocks.{block}.{name}.weight"] = shape
            vectors[f"blocks.{block}.{name}.bias"] = shape[0]
        vectors |= {f"blocks.{block}.{norm}.{key}": WIDTH for norm in ("norm1", "norm2") for key in ("weight", "bias")}
    drawn = {name: rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])) for name, shape in shapes.items()}
    drawn |= {
        name: ("norm" in name and name.endswith("weight")) + 0.3 * rng.standard_normal(size)
        for name, size in vectors.items()
    }
    return {name: value.astype(np.float32) for name, value in drawn.items()}


@pytest.fixture(scope="module")
def files(tensors, tmp_path_factory):
    """The same tensors in both formats."""
    folder = tmp_path_factory.mktemp("public")
    save_file(tensors, folder / "timm.safetensors")
    np.savez(folder / "augreg.npz", **as_augreg(tensors, HEADS))
    return {"timm": folder / "timm.safetensors", "augreg": folder / "augreg.npz"}


@pytest.fixture(scope="module")
def encode(files):
    """(images, valid) -> the maps, and what E_q makes of them."""
    encoder = QualityEncoder(TINY, width=16)
    backbone = read_vit(files["timm"], TINY)
    example = np.zeros((1, 32, 32, 3), np.float32), np.full((1, 2), 32, np.int32)
    fresh = jax.jit(encoder.init)(jax.random.key(0), *example)["params"]
    params = {**fresh, "backbone": backbone}
    return jax.jit(lambda *views: (TINY.apply({"params": backbone}, *views), encoder.apply({"params": params}, *views)))


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(1)
    return [rng.random((*size, 3)).astype(np.float32) for size in SIZES]


def on_canvas(pictures, canvas, fill):
    whole = np.full((len(pictures), *canvas, 3), fill, np.float32)
    for row, picture in zip(whole, pictures, strict=True):
        row[: picture.shape[0], : picture.shape[1]] = picture
    return whole, np.array(SIZES, np.int32)


def by_numpy(tensors, picture):
    """The same network in float64, from the formulas and timm's names: one picture, no canvas -> maps."""
    t = {name: value.astype(np.float64) for name, value in tensors.items()}
    rows, cols = picture.shape[0] // 16, picture.shape[1] // 16

    def norm(name, x):
        x = x - x.mean(axis=-1, keepdims=True)
        return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6) * t[f"{name}.weight"] + t[f"{name}.bias"]

    def dense(name, x):
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    tokens = [t["cls_token"][0, 0] + t["pos_embed"][0, 0]]
    grid = tensors["pos_embed"][0, 1:].reshape(14, 14, WIDTH)
    planes = [Image.fromarray(plane).resize((cols, rows), Image.BICUBIC) for plane in grid.transpose(2, 0, 1)]
    positions = np.stack([np.asarray(plane, np.float64) for plane in planes], axis=-1)
    for row in range(rows):
        for col in range(cols):
            patch = picture[16 * row : 16 * row + 16, 16 * col : 16 * col + 16].astype(np.float64) * 2 - 1
            seen = np.einsum("yxc,ocyx->o", patch, t["patch_embed.proj.weight"]) + t["patch_embed.proj.bias"]
            tokens.append(seen + positions[row, col])
    x = np.stack(tokens)
    maps = []
    for block in range(LEVELS[-1]):
        name = f"blocks.{block}"
        q, k, v = np.split(dense(f"{name}.attn.qkv", norm(f"{name}.norm1", x)), 3, axis=-1)
        mixed = []
        for head in np.split(np.arange(WIDTH), HEADS):
            weights = np.exp(q[:, head] @ k[:, head].T / np.sqrt(WIDTH / HEADS))
            mixed.append(weights / weights.sum(axis=1, keepdims=True) @ v[:, head])
        x = x + dense(f"{name}.attn.proj", np.concatenate(mixed, axis=-1))
        hidden = dense(f"{name}.mlp.fc1", norm(f"{name}.norm2", x))
        x = x + dense(f"{name}.mlp.fc2", hidden * (1 + erf(hidden / np.sqrt(2))) / 2)
        maps.append(x[1:].reshape(rows, cols, WIDTH))
    return [*maps[:-1], norm("norm", maps[-1])]


def test_each_image_of_a_batch_has_the_tokens_of_a_numpy_reference(encode, tensors, pictures):
    features, _ = encode(*on_canvas(pictures, CANVAS, 0.0))
    for number, picture in enumerate(pictures):
        for mine, expected in zip(features, by_numpy(tensors, picture), strict=True):
            found = np.asarray(mine)[number, : expected.shape[0], : expected.shape[1]]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5 * np.abs(expected).max())


def test_canvas_and_pixels_outside_the_image_change_nothing(encode, pictures):
    features, quality = encode(*on_canvas(pictures, CANVAS, 0.0))
    for canvas, fill in ((CANVAS, 0.7), (CANVAS, 1e4), (LARGER, 0.3)):
        others, other = encode(*on_canvas(pictures, canvas, fill))
        # One canvas: masked keys weigh exactly 0, so not one bit. Another: sums over another number of zeros.
        tolerance = 0.0 if canvas == CANVAS else 1e-5
        np.testing.assert_allclose(other.vector, quality.vector, atol=tolerance)
        for number, (rows, cols) in enumerate(SIZES):
            for mine, theirs in zip(features, others, strict=True):
                inside = np.s_[number, : rows // 16, : cols // 16]
                np.testing.assert_allclose(theirs[inside], mine[inside], atol=tolerance)
        np.testing.assert_allclose(
            np.asarray(other.tokens)[np.asarray(other.mask)],
            np.asarray(quality.tokens)[np.asarray(quality.mask)],
            atol=tolerance,
        )
    changed = [picture * 0.5 for picture in pictures]
    assert np.abs(encode(*on_canvas(changed, CANVAS, 0.0))[1].vector - quality.vector).max() > 1e-2


@pytest.mark.long
def test_an_image_of_224_gets_the_learned_positions_unchanged():
    grid = np.random.default_rng(0).standard_normal((14, 14, 8)).astype(np.float32)
    found = positions_at(grid, np.array([[14, 14], [7, 14]]), 16, 20)
    np.testing.assert_array_equal(found[0, :14, :14], grid)
    halved = [Image.fromarray(plane).resize((14, 7), Image.BICUBIC) for plane in grid.transpose(2, 0, 1)]
    np.testing.assert_allclose(found[1, :7, :14], np.stack(halved, axis=-1), atol=1e-5)


def test_an_export_leaves_batch_and_canvas_free(files, pictures, encode):
    params = read_vit(files["timm"], TINY)
    b, h, w = jax.export.symbolic_shape("b, h, w")
    views = jax.ShapeDtypeStruct((b, 32 * h, 32 * w, 3), np.float32), jax.ShapeDtypeStruct((b, 2), np.int32)
    exported = jax.export.export(jax.jit(lambda *views: TINY.apply({"params": params}, *views)))(*views)
    views = on_canvas(pictures, CANVAS, 0.0)
    for found, expected in zip(exported.call(*views), encode(*views)[0], strict=True):
        np.testing.assert_allclose(found[0], expected[0], atol=1e-5)  # the first fills the canvas


def test_both_public_formats_give_the_same_parameters_and_all_of_them(files):
    example = np.zeros((1, 32, 32, 3), np.float32), np.full((1, 2), 32, np.int32)
    expected = flatten(jax.eval_shape(TINY.init, jax.random.key(0), *example)["params"])
    one, other = (flatten(read_vit(file, TINY)) for file in files.values())
    assert {name: value.shape for name, value in one.items()} == {name: leaf.shape for name, leaf in expected.items()}
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value, err_msg=name)
        assert value.dtype == np.float32 and value.flags.c_contiguous


WRONG = {
    "another size": (
        TINY.clone(width=64),
        {},
        r"norm.weight must have shape \(64,\) for a ViT of width 64, .*, got \(32,\)",
    ),
    "more blocks": (TINY.clone(levels=(1, 3)), {}, "tensor 'blocks.2.attn.qkv.weight' is missing"),
    "fewer blocks": (TINY.clone(levels=(1,)), {}, "for another network: blocks.1.attn.proj.bias"),
    "larger images": (
        TINY,
        {"pos_embed": (1, 577, WIDTH)},
        r"pos_embed must have shape \(1, 197, 32\) .*, got \(1, 577, 32\)",
    ),
    "another kind": (TINY, {"blocks.0.ls1.gamma": (WIDTH,)}, "for another network: blocks.0.ls1.gamma would be unused"),
    "not finite": (TINY, {"norm.bias": None}, "norm.bias has values that are not finite"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_of_another_network_is_refused_with_tensor_and_shape(tensors, tmp_path, name):
    vit, changes, said = WRONG[name]
    changed = {key: np.full(shape or (WIDTH,), 1.0 if shape else np.nan, np.float32) for key, shape in changes.items()}
    save_file({**tensors, **changed}, tmp_path / "given.safetensors")
    with pytest.raises(UserError, match=f"given.safetensors: .*{said}"):
        read_vit(tmp_path / "given.safetensors", vit)


def test_another_number_of_heads_is_refused_if_the_file_has_a_heads_axis(files):
    with pytest.raises(
        UserError, match=r"query/kernel must have shape \(32, 4, 8\) for .* 4 heads.*, got \(32, 2, 16\)"
    ):
        read_vit(files["augreg"], TINY.clone(heads=4))


@pytest.mark.parametrize("content", [b"", b"no tensors here", b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(64)])
def test_a_file_of_another_format_is_refused_by_name(tmp_path, content):
    path = tmp_path / "given.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match="given.npz: must be an .npz or .safetensors .*google-research"):
        read_vit(path, TINY)
    with pytest.raises(UserError, match="absent.npz: no such file; .*google-research"):
        read_vit(tmp_path / "absent.npz", TINY)


def test_an_object_in_an_npz_is_not_executed(tmp_path, files):
    with np.load(files["augreg"]) as file:
        held = {**file, "cls": np.array([{"an": "object"}], object)}
    np.savez(tmp_path / "given.npz", **held)
    with pytest.raises(UserError, match="given.npz: must be .*allow_pickle"):
        read_vit(tmp_path / "given.npz", TINY)


@pytest.fixture(scope="module", params=["s", "b"])
def variant(request):
    """The config of stage 2 of a variant, and the shapes of its parameters by path."""
    config = read(str(ROOT / "configs" / f"biq2021_{request.param}.py"))
    model = driqa.build_model(initialization.with_model(config).model)
    return config, flatten(expected_params(model))


def test_the_variants_have_the_public_networks_sizes(variant):
    config, shapes = variant
    # timm's vit_small_patch16_224 and vit_base_patch16_224 have 22,050,664 and 86,567,656, of which the classifier has
    # 1000 * (C + 1); here the class token and its position are one vector.
    public = {"s": 22_050_664 - 1000 * 385 - 384, "b": 86_567_656 - 1000 * 769 - 768}
    size = {path: leaf.size for path, leaf in shapes.items()}
    backbone = sum(size[path] for path in size if path.startswith("quality_encoder/backbone/"))
    assert backbone == public[config.model.variant]
    assert 0.65 * sum(size.values()) < backbone < 0.85 * sum(size.values())


def test_the_configs_patterns_fit_what_the_variant_has_and_rates_rise_with_depth(variant):
    config, paths = variant
    patterns = [*config.optim.frozen, *(pattern for pattern, _ in config.optim.groups)]
    assert [pattern for pattern in patterns if not fnmatch.filter(list(paths), pattern)] == []
    rates = {
        path: next((rate for pattern, rate in config.optim.groups if fnmatch.fnmatchcase(path, pattern)), 1.0)
        for path in paths
        if not optim.matches(path, config.optim.frozen)
    }
    assert not any("patch/" in path for path in rates)
    backbone = "quality_encoder/backbone"
    inner = [
        f"{backbone}/positions",
        *(f"{backbone}/block{k}/mlp/out/bias" for k in range(1, 13)),
        f"{backbone}/norm/bias",
    ]
    found = [rates[path] for path in (*inner, "quality_encoder/vector/kernel", "predictor/score/kernel")]
    assert found == sorted(found) and found[0] < 0.01 and found[-1] == 1.0
    assert all(rates[path] < 0.11 for path in rates if path.startswith(backbone))


@pytest.mark.long
def test_remat_keeps_the_gradients_and_the_dtype_of_the_parameters(files):
    params = read_vit(files["timm"], TINY)
    images, valid = np.random.default_rng(1).random((3, *CANVAS, 3)).astype(np.float32), np.array(SIZES, np.int32)

    def gradients(net):
        def loss(params):
            return sum(jnp.square(level).mean() for level in net.apply({"params": params}, images, valid))

        return flatten(jax.jit(jax.grad(loss))(params))

    one, again = gradients(TINY), gradients(TINY.clone(remat=True))
    for path, value in one.items():
        np.testing.assert_allclose(again[path], value, rtol=1e-4, atol=1e-6, err_msg=path)
    narrow = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
    levels = jax.eval_shape(lambda params: TINY.apply({"params": params}, images, valid), narrow)
    assert {level.dtype for level in levels} == {jnp.dtype("bfloat16")}


@pytest.fixture
def config(monkeypatch):
    """A training of two steps of all parts, narrow, around the tiny ViT."""
    size = driqa.Size(TINY, WIDTH, 2, (8,) * 5, RestorationNet(8, (1,), middle=1))
    monkeypatch.setitem(driqa.VARIANTS, "tiny_vit", functools.partial(driqa.assemble, size))
    config = default()
    config.model.types, config.model.variant = NAMES, "tiny_vit"
    config.data.kind, config.data.fake_count = "fake", 24
    config.view.short, config.view.canvas, config.view.tile = 64, (64, 64), 64
    config.batch_size, config.steps, config.log_every = 8, 2, 1
    config.optim.frozen = ("degradation_encoder/*", "restoration/*", "*/backbone/patch/*", "*/standardize_*")
    return config


@pytest.mark.long
def test_a_training_starts_from_the_file_and_what_it_gives_scores_photos(config, files, tmp_path):
    config.backbone = str(files["augreg"])
    assert loop.train(config, tmp_path / "run") == 0
    params, metadata, _ = load(tmp_path / "run")
    start, end = flatten(read_vit(files["timm"], TINY)), flatten(params["quality_encoder"]["backbone"])
    moved = {name for name, value in end.items() if not np.array_equal(value, start[name])}
    assert not any(name.startswith("patch/") for name in moved)
    # Keys' biases have no gradient: a softmax forgets what is added to all its logits.
    assert {"class_token", "positions", "block1/attention/query/kernel", "block2/mlp/out/bias", "norm/scale"} <= moved
    assert all(np.abs(value - start[name]).max() < 0.01 for name, value in end.items())

    save_weights(tmp_path / "tiny_vit.safetensors", params, {**metadata, "licence": "CC0-1.0"})
    score = scorer.load(tmp_path / "tiny_vit.safetensors", effort="fast")
    found = score([str(ROOT / "examples" / "photos" / name) for name in ("dog.jpg", "nyc.jpg")])
    assert np.isfinite(found).all() and found.min() > 0 and found.max() < 100 and found[0] != found[1]


def test_without_a_file_the_vit_starts_fresh_and_says_so(config, capsys):
    assert initialization._backbone_weights(config, TINY) == {}
    expected = "variant 'tiny_vit': config.backbone is empty, so the ViT starts from random numbers"
    assert expected in capsys.readouterr().err


@pytest.mark.long
def test_a_file_that_the_run_would_not_use_is_refused(config, files, tmp_path):
    config.backbone = str(files["timm"])
    lite = config.copy_and_resolve_references()
    lite.model.variant = "lite"
    with pytest.raises(UserError, match="'lite' takes its backbone from an installed package"):
        initialization.finetuning_params(lite, driqa.build_model(lite.model), source=None)
    with pytest.raises(UserError, match="config.backbone is for stage 2"):
        initialization.pretraining_params(config, driqa.build_model(config.model), source=None)
