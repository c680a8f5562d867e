"""The host's operations that the benchmark compares with are the device's, so that speeds compare like with like."""

import json

import jax
import numpy as np
import pytest
from skimage import data

from benchmarks import degradations as bench
from benchmarks import host_degradations
from benchmarks.host_degradations import HOST
from driqa_jax.degradations import apply, chains

SEVERITY = 0.5
# Nothing is drawn in these, and the device's definition is the host's.
EXACT = {
    "gaussian_blur": 45,
    "lens_blur": 45,
    "jpeg": 40,
    "pixelate": 25,  # Pillow's blocks begin at whole pixels
    "quantization": 60,
    "high_sharpen": 45,
    "ringing": 45,
    "color_saturation_1": 60,
    "darken": 60,
    "brighten": 40,
    "color_saturation_2": 40,
}
PHOTO = np.ascontiguousarray(data.astronaut()[40:104, 180:244]).astype(np.float32) / 255


def psnr(one, other):
    return -10 * np.log10(((np.asarray(one, np.float64) - np.asarray(other, np.float64)) ** 2).mean() + 1e-12)


@pytest.mark.parametrize("opencv", [True, False])
def test_host_operations_do_what_the_device_does(opencv, monkeypatch):
    if opencv and not host_degradations.cv2:
        pytest.skip("OpenCV is not installed")
    if not opencv:
        monkeypatch.setattr(host_degradations, "cv2", None)
    needs_opencv = ("brighten", "color_saturation_2")
    shared = [name for name in EXACT if name in HOST and (opencv or name not in needs_opencv)]
    program = jax.jit(lambda key, image: {name: apply(name, key, image, SEVERITY) for name in shared})
    expected = program(jax.random.key(0), PHOTO)
    assert len(expected) > 5
    for name in shared:
        assert psnr(HOST[name](np.random.default_rng(0), PHOTO, SEVERITY), expected[name]) > EXACT[name], name


def test_every_host_operation_degrades_and_stays_a_picture():
    distances = {}
    for name, function in HOST.items():
        out = function(np.random.default_rng(0), PHOTO, SEVERITY)
        assert out.shape == PHOTO.shape and out.dtype == np.float32, name
        assert out.min() >= -1e-6 and out.max() <= 1 + 1e-6, name
        distances[name] = np.sqrt(((out - PHOTO) ** 2).mean())
    assert min(distances.values()) > 0.01, distances
    grey = np.full((128, 128, 3), 0.5, np.float32)
    for name, sigma in (("white_noise", 0.15), ("multiplicative_noise", 0.5 * 0.35)):
        noise = HOST[name](np.random.default_rng(0), grey, SEVERITY) - 0.5
        assert abs(noise.std() / (SEVERITY * sigma) - 1) < 0.02, name
    share = (HOST["impulse_noise"](np.random.default_rng(0), grey, SEVERITY) != 0.5).mean()
    assert abs(share - 0.1 * SEVERITY) < 0.003


def test_the_benchmark_writes_what_it_measured(tmp_path, capsys, monkeypatch, root):
    # The whole bank takes a minute to compile, and this is about the measuring: one addition for each type.
    monkeypatch.setattr(chains, "_branch", lambda entry: lambda key, photos, severity, ids: photos + severity)
    monkeypatch.setattr(bench.pretrain, "degrade", lambda config, photos, index, step: (photos, step))
    monkeypatch.setattr(bench, "make_step", lambda *unused: lambda run, batch: (run, batch["photo"].sum()))
    monkeypatch.setattr(bench.initial, "fresh_pretraining_params", lambda *unused: {"a": {"kernel": np.zeros((2, 2))}})
    words = ["--side", "32", "--names", "brighten,motion_blur", "--repeats", "2", "--recipe", "pairs"]
    words += ["--config", str(root / "configs" / "pretrain_lite.py")]
    assert bench.main([*words, "--json", str(tmp_path / "b.json")]) == 0
    found = json.loads((tmp_path / "b.json").read_text())
    assert list(found["operations"]) == ["brighten", "motion_blur"]
    rates = [*found["operations"].values(), found["shared_types"]]
    assert all(rate["images_per_second"] > 0 for rate in rates)
    assert found["recipe_images_per_second"] > 0 and found["shared_types"]["host_images_per_second"] > 0
    assert 0 < found["peak_rss_mib"]["before"] <= found["peak_rss_mib"]["after_recipe"]
    assert found["pretraining"]["share"] == pytest.approx(
        found["pretraining"]["recipe_seconds"] / found["pretraining"]["step_seconds"]
    )
    assert "motion_blur" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        bench.main(["--names", "blur"])
