"""The backbone: the public network's own predictions, and features that no canvas changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from skimage import data

from driqa_jax.models.efficientnet import EfficientNetLite0
from driqa_jax.models.pretrained import imagenet_weights, read_torch_file

SIDE = 224
CATS, ESPRESSO = (281, 282, 285), 967  # tabby, tiger cat, Egyptian cat
STRIDES = (2, 4, 8, 16, 16, 32, 32, 32)


@pytest.fixture(scope="module")
def weights():
    return imagenet_weights()


@pytest.fixture(scope="module")
def backbone(weights):
    """(images, valid) -> features, compiled once for each canvas."""
    model = EfficientNetLite0()
    return jax.jit(lambda images, valid: model.apply({"params": weights[0]}, images, valid))


def centre(picture):
    """The middle square at 256 and its middle 224, as the network was evaluated; float32 in [0, 1]."""
    side, margin = min(picture.shape[:2]), (256 - SIDE) // 2
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    square = Image.fromarray(picture[top : top + side, left : left + side]).resize((256, 256), Image.BICUBIC)
    return np.asarray(square, np.float32)[margin:-margin, margin:-margin] / 255


@pytest.fixture(scope="module")
def photos():
    return np.stack([centre(data.chelsea()), centre(data.coffee())])


@pytest.fixture(scope="module")
def features(backbone, photos):
    return [np.asarray(x) for x in backbone(photos, jnp.full((2, 2), SIDE, jnp.int32))]


def test_the_public_network_names_a_cat_and_an_espresso(features, weights):
    assert [x.shape[1] for x in features] == [SIDE // stride for stride in STRIDES]
    assert [x.shape[3] for x in features] == list(EfficientNetLite0.channels)
    logits = features[-1].mean(axis=(1, 2)) @ weights[1]["kernel"] + weights[1]["bias"]
    probability = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability /= probability.sum(axis=1, keepdims=True)
    cat, cup = probability
    assert cat.argmax() in CATS and cat[list(CATS)].sum() > 0.5, (cat.argmax(), cat.max())
    assert cup.argmax() == ESPRESSO and cup.max() > 0.3, (cup.argmax(), cup.max())


@pytest.mark.parametrize("fill", ["zeros", "noise", "huge"])
def test_canvas_and_pixels_outside_the_image_change_no_feature(backbone, photos, features, fill):
    rng = np.random.default_rng(1)
    canvas = np.zeros((2, SIDE + 32, SIDE + 64, 3), np.float32)
    if fill != "zeros":
        canvas[:] = rng.random(canvas.shape) * (1.0 if fill == "noise" else 1e4)
    canvas[:, :SIDE, :SIDE] = photos
    larger = backbone(canvas, jnp.full((2, 2), SIDE, jnp.int32))
    for stride, inside, found in zip(STRIDES, features, larger, strict=True):
        assert np.abs(np.asarray(found)[:, : SIDE // stride, : SIDE // stride] - inside).max() <= 1e-4, stride


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no tensors here",
        b"\x89PNG\r\n\x1a\n" + bytes(64),
        b"PK\x03\x04" + bytes(64),
        b"\x96" + b"\xff" * 8,
    ],
)
def test_a_file_of_another_format_is_refused_by_name(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="weights.pth: not a PyTorch state dict of plain tensors"):
        read_torch_file(path)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    path, trace = tmp_path / "evil.pth", tmp_path / "ran"
    path.write_bytes(b"cos\nsystem\n(S'touch " + str(trace).encode() + b"'\ntR.")
    with pytest.raises(ValueError, match="evil.pth: .*refused to load os.system"):
        read_torch_file(path)
    assert not trace.exists()
