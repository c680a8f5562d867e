"""The ViT beside timm's, full size, on photographs: `pip install torch timm; pytest -m long tests/test_vit_public.py`.

The weights are random: what is compared is the network, and how its files are read.
"""

import jax
import numpy as np
import pytest
from PIL import Image
from vit_tensors import as_augreg

from driqa_jax.models.driqa import SIZES
from driqa_jax.models.pretrained import read_vit
from driqa_jax.models.summary import summarize

pytestmark = pytest.mark.long
NAMES = {"s": "vit_small_patch16_224", "b": "vit_base_patch16_224"}
PICTURES = ("dog.jpg", "nyc.jpg")
SIZED = ((224, 224), (320, 256), (160, 416))  # up, down and both, from the 14x14 grid of positions
CANVAS = (320, 416)


@pytest.fixture(scope="module", params=NAMES)
def both(request, tmp_path_factory):
    """timm's network, all parameters random, and ours from each of the two files that hold them."""
    torch = pytest.importorskip("torch", reason="the public network; pip install torch timm")
    from safetensors.numpy import save_file

    declare_operators(torch)
    timm = pytest.importorskip("timm", reason="the public network; pip install torch timm")

    torch.manual_seed(0)
    public = timm.create_model(NAMES[request.param], pretrained=False, dynamic_img_size=True).eval()
    with torch.no_grad():
        # Fresh biases are 0 and scales 1, which would hide that they are mixed up.
        for parameter in public.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.02 if parameter.ndim > 1 else 0.2))
    tensors = {name: value.numpy() for name, value in public.state_dict().items()}
    folder = tmp_path_factory.mktemp("public")
    files = {"timm": folder / "model.safetensors", "augreg": folder / "model.npz"}
    save_file(tensors, files["timm"])
    np.savez(files["augreg"], **as_augreg(tensors, public.blocks[0].attn.num_heads))
    return public, SIZES[request.param].backbone, files


def declare_operators(torch):
    """Have torchvision, which timm imports, start without its compiled operators; a ViT calls none of them.

    PyPI's torchvision is built for CUDA: beside a CPU build of torch its library does not load, and it then stops at
    the registration of operators that nobody has declared.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in ("nms", "qnms"):  # the two that are registered even where the library did not load
            torch.library.define(f"torchvision::{name}", "(Tensor unused) -> Tensor")


def photo(root, name, size):
    picture = Image.open(root / "examples" / "photos" / name).convert("RGB").resize(size[::-1], Image.BICUBIC)
    return np.asarray(picture, np.float32) / 255


def test_both_files_hold_the_public_parameters(both):
    import timm

    public, vit, files = both
    mine, theirs = (jax.tree.leaves_with_path(read_vit(file, vit)) for file in files.values())
    for (path, one), (_, other) in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=jax.tree_util.keystr(path))
    # And timm reads the .npz that was written here as the same network: it has the authors' layout.
    again = timm.create_model(public.default_cfg["architecture"], pretrained=False)
    again.load_pretrained(files["augreg"])
    for name, value in public.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], value, err_msg=name)


@pytest.mark.parametrize("size", SIZED, ids=str)
def test_tokens_of_photographs_are_those_of_the_public_network(both, root, size):
    import torch

    public, vit, files = both
    photos = np.stack([photo(root, name, size) for name in PICTURES])
    with torch.no_grad():
        given = torch.from_numpy(photos.transpose(0, 3, 1, 2) * 2 - 1)
        blocks = [level - 1 for level in vit.levels]
        last, expected = public.forward_intermediates(given, indices=blocks, output_fmt="NLC")
        expected[-1] = last[:, 1:]  # after the last norm
    canvas = np.full((2, *CANVAS, 3), 0.7, np.float32)
    canvas[:, : size[0], : size[1]] = photos
    params = read_vit(files["timm"], vit)
    found = jax.jit(lambda *views: vit.apply({"params": params}, *views))(canvas, np.array([size] * 2, np.int32))
    for level, theirs, mine in zip(vit.levels, expected, found, strict=True):
        theirs = theirs.numpy()
        mine = np.asarray(mine)[:, : size[0] // 16, : size[1] // 16].reshape(theirs.shape)
        error = np.linalg.norm(mine - theirs, axis=-1) / np.linalg.norm(theirs, axis=-1)
        print(f"{size} block {level}: largest relative error of a token {error.max():.1e}")
        assert error.max() < 1e-4, level


@pytest.mark.parametrize("variant", ["lite", "s", "b"])
def test_the_page_of_variants_gives_the_counts_of_the_program(root, variant):
    whole = summarize(variant, measure=False)[-1]
    rows = [
        line for line in (root / "docs" / "VARIANTS.md").read_text().splitlines() if line.startswith(f"| `{variant}`")
    ]
    assert len(rows) == 1 and f"| {whole.parameters / 1e6:.1f} M | {whole.multiply_adds / 1e9:.1f} |" in rows[0], whole
