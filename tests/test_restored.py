"""Restorers, and the protocol that sets a score beside full-reference metrics on what they make."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny_scorer import tiny_scorer

from experiments.restored_images import restorers, study
from experiments.restored_images.__main__ import main
from experiments.restored_images.contents import METRICS, Contents
from experiments.restored_images.summary import ALL, EACH, Content, agreement, disagreements, punishment

data = pytest.importorskip("skimage.data", reason="the extra `protocol` (scikit-image) is not installed")


def photo(place=0, side=64):
    return np.ascontiguousarray(data.astronaut()[100 + place : 100 + place + side, 180 : 180 + side])


def error(x, y):
    return np.square(x.astype(np.float64) - y).mean()


def noisy(clean):
    noise = np.random.default_rng(0).normal(0, 18, clean.shape)
    return np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("name", "strength"), [("non_local_means", 0.1), ("bilateral", 0.05)])
def test_denoisers_take_noise_away_and_texture_too(name, strength):
    clean, restorer = photo(), restorers.CLASSICAL[name]
    assert error(restorers.apply(restorer, noisy(clean), strength), clean) < 0.6 * error(noisy(clean), clean)
    assert error(restorers.apply(restorer, clean, 4 * strength), clean) > error(
        restorers.apply(restorer, clean, strength), clean
    )


def test_wiener_undoes_the_blur_that_it_is_told_and_unsharp_exaggerates():
    from scipy.ndimage import gaussian_filter

    clean = photo()
    blurred = gaussian_filter(clean.astype(float), (1.4, 1.4, 0)).round().astype(np.uint8)
    deconvolved = restorers.apply(restorers.wiener, blurred, 1.4)
    assert error(deconvolved, clean) < 0.7 * error(blurred, clean)
    # At its edges too: nothing comes in from the other side.
    assert error(deconvolved[:3], clean[:3]) < error(blurred[:3], clean[:3])
    assert error(restorers.apply(restorers.wiener, blurred, 3.0), clean) > error(deconvolved, clean)
    assert error(restorers.apply(restorers.unsharp, clean, 2.0), clean) > 2 * error(
        restorers.apply(restorers.unsharp, clean, 0.5), clean
    )


def test_the_network_adds_a_share_of_its_residual():
    scorer = tiny_scorer()
    run, image = restorers.network(scorer.model, scorer.params), photo().astype(np.float32) / 255
    once, twice = run(image, 1.0) - image, run(image, 2.0) - image
    assert np.abs(once).max() > 1e-3 and twice == pytest.approx(2 * once, abs=1e-5)
    assert (restorers.apply(run, photo(), 0.0) == photo()).all()


def content(ssim, scores, degradation="jpeg"):
    """One strength axis of one restorer, from the picture that is not restored on."""
    rows = [
        {
            "degradation": degradation,
            "restorer": "unsharp" if i else "",
            "strength": float(i),
            "metrics": {"psnr": 30 * s, "ssim": s, "gmsd": 1 - s},
            "scores": {"model": score},
        }
        for i, (s, score) in enumerate(zip(ssim, scores, strict=True))
    ]
    return Content.of(rows)


def test_agreement_is_the_mean_over_contents_of_what_is_within_them():
    # Each content is ranked perfectly, or perfectly wrong; their levels, which differ, are not compared.
    right, wrong = content([0.1, 0.2, 0.3], [70, 80, 90]), content([0.7, 0.8, 0.9], [30, 20, 10])
    assert agreement([right, right], "model", "gmsd")["srcc"][ALL].value == pytest.approx(1)
    mixed = agreement([right, right, right, wrong], "model", "ssim")
    assert mixed["srcc"][EACH].value == mixed["krcc"]["jpeg"].value == pytest.approx(0.5)
    assert mixed["srcc"][ALL].interval == (-0.5, 1.0) and mixed["srcc"][ALL].n == 4
    constant = agreement([right, content([0.1, 0.2], [5, 5])], "model", "ssim")["srcc"][ALL]
    assert constant.value == pytest.approx(1) and constant.n == 1


def test_punishment_looks_beyond_the_metrics_best():
    # Best at strength 1; beyond it the score falls once and rises once, and ends four points higher.
    one = content([0.5, 0.9, 0.8, 0.7], [10, 50, 45, 54])
    found = punishment([one], "model", "ssim", "unsharp")
    assert [found[name].value for name in ("punished", "change", "excess")] == pytest.approx([0.5, 4.0, 2.0])
    own = punishment([one], "gmsd", "ssim", "unsharp")
    assert own["punished"].value == 1 and own["excess"].value == 0
    # Where the metric likes the strongest best, there is no beyond.
    rising = punishment([content([0.1, 0.2], [1, 2])], "model", "ssim", "unsharp")
    assert rising["punished"].value is None and rising["excess"].value == 0


def test_the_worst_disagreement_is_found():
    fine, bad = content([0.1, 0.2, 0.3], [1, 2, 3]), content([0.9, 0.8, 0.1], [10, 20, 60])
    (found,) = disagreements([fine, bad], "model", 4)
    assert (found.content, found.first, found.second) == (1, 0, 2)
    assert found.score == pytest.approx(50) and found.ssim == pytest.approx(0.8)


def test_rows_hold_every_strength_and_the_metrics_of_its_picture():
    def brightness(pictures):
        return np.array([picture.mean() for picture in pictures])

    strengths = {"unsharp": (1.0, 2.0)}
    used = {"unsharp": restorers.unsharp}
    made = Contents((("none", 0.0), ("halo", 0.5)), used, strengths, {"m": brightness}, 0)
    rows = made.rows(photo(), 3)
    assert [(r["degradation"], r["strength"]) for r in rows] == [(d, s) for d in ("none", "halo") for s in (0, 1, 2)]
    assert rows[0]["metrics"] == pytest.approx({"psnr": 80.0, "ssim": 1.0, "gmsd": 0.0}, abs=1e-4)
    assert rows[5]["metrics"]["ssim"] < rows[3]["metrics"]["ssim"] < 1
    assert set(rows[0]["metrics"]) == set(METRICS)
    again = dict(made.images(photo(), 3))
    assert rows[4]["scores"]["m"] == again[list(again)[4]].mean()
    assert (made.image(photo(), 3, list(again)[4]) == again[list(again)[4]]).all()


CONFIG = """
from experiments.restored_images.config import default

def get_config():
    config = default()
    config.degradations = (("none", 0.0), ("white_noise", 0.5))
    config.restorers = {"unsharp": (1.0, 4.0), "network": (0.5, 1.0)}
    config.side = 64
    return config
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    for i in range(3):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(photo(20 * i, 80)).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "config.py").write_text(CONFIG)
    monkeypatch.setattr(study, "load", lambda name: tiny_scorer())
    given = f"--config.data.path={tmp_path / 'photos'}"
    return ["--config", str(tmp_path / "config.py"), "--workdir", str(tmp_path / "run"), given]


def test_the_protocol_runs_and_goes_on_where_it_was(command, tmp_path, monkeypatch, capsys):
    Image.fromarray(photo(0, 40)).save(tmp_path / "photos" / "small.png")
    assert main(command) == 1
    assert "small.png: 40x40 is smaller than 64 pixels" in capsys.readouterr().err
    found = json.loads((tmp_path / "run" / "restored.json").read_text())
    assert sorted(found["contents"]) == ["0.png", "1.png", "2.png"] and list(found["failed"]) == ["small.png"]
    assert found["agreement"][0]["SRCC"]["n"] == 3 and -1 <= found["agreement"][0]["SRCC"]["value"] <= 1
    assert found["provenance"]["lite-0.5"]["sha256"] == tiny_scorer().sha256

    def written():
        return {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir() if p.is_file()}

    before = written()
    assert {"agreement.md", "punishment.csv", "curves.png"} <= set(before)
    assert Image.open(tmp_path / "run" / "disagreements.png").size[0] > 400

    (tmp_path / "run" / "restored.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Contents, "rows", None)  # nothing is measured twice
        assert main(command) == 1
    assert written() == before
    with monkeypatch.context() as patch:
        patch.setattr(Contents, "rows", None)  # ... but by other settings it is measured anew
        with pytest.raises(TypeError):
            main([*command, "--config.seed=1"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("--config.restorers.unsharp=(2.0,1.0)", "config.restorers.unsharp: give at least two strengths"),
        ("--config.degradations=(('jpg',0.5),)", "config.degradations: 'jpg' is neither 'none' nor a type"),
        ("--config.degradations=(('jpeg',1.5),)", "the severity of jpeg is 1.5"),
        ("--config.models=()", "config.models is empty"),
        ("--config.side=50", "config.side is 50; it must be 0 or a multiple of 32"),
        ("--config.data.path=/nowhere", "/nowhere"),
    ],
)
def test_settings_that_cannot_be_are_refused(command, override, said, capsys):
    assert main([*command, override]) == 2
    assert said in capsys.readouterr().err
