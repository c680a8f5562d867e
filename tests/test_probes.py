"""The diagnostics of "separately", on representations whose results are known beforehand."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from skimage import data
from tiny_scorer import RULE, tiny_scorer

from driqa_jax.cli.main import main
from driqa_jax.data.views import make_view
from driqa_jax.evaluation import examination, probes
from driqa_jax.evaluation.examination import CLASS_OF, Restoration, classes
from driqa_jax.evaluation.probes import REPRESENTATIONS, Reader, stacked
from driqa_jax.inference import scorer


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_each_representation_tells_what_it_holds(rng):
    # d holds the type alone, q the MOS alone; interaction gives both to both.
    photos, labels = np.tile(np.arange(20), 12), np.repeat(np.arange(4), 60)
    mos = rng.random(240)
    d = np.eye(4)[labels] @ rng.normal(size=(4, 6)) + 0.05 * rng.normal(size=(240, 6))
    q = mos[:, None] * rng.normal(size=(1, 6)) + 0.05 * rng.normal(size=(240, 6))
    both = np.concatenate([d, q], axis=1)
    seen = dict(zip(REPRESENTATIONS, (d, q, both, both), strict=True))
    told = probes.probe_mos(seen, mos, photos, draws=100)
    assert told["q"]["srcc"].value > 0.95 and told["d~"]["plcc"].value > 0.95 and told["d"]["srcc"].value < 0.3
    low, high = told["q"]["srcc"].interval
    assert low < told["q"]["srcc"].value < high
    named = probes.probe_types(seen, labels, photos)
    assert named["d"].value > 0.95 and named["q~"].value > 0.95 and named["q"].value == pytest.approx(0.25, abs=0.12)
    assert named["d"].n == 20 and named["q"].interval[0] < named["q"].value < named["q"].interval[1]
    alike = probes.compare(seen, photos)
    assert alike["d~, q~"].value == pytest.approx(1) and alike["d~, q~"].interval == pytest.approx((1, 1))
    low, high = alike["d, q"].interval
    assert low < 0 < high and high - low < 0.2


def test_gains_are_those_of_the_restorer():
    before = np.full((2, 5, 3), 20.0)
    after = before + np.array([1.0, 2.0, 3.0])[None, None, :]
    nothing = np.zeros((2, 5, 3))
    found = probes.gains(Restoration(("a", "b"), nothing, before, after, after - 1.5, nothing, nothing, nothing))
    assert [found[name].value for name in ("true", "shuffled", "difference")] == pytest.approx([2, 0.5, 1.5])
    assert found["difference"].interval == pytest.approx((1.5, 1.5)) and found["true"].interval == (1.0, 3.0)


def test_the_reader_gives_what_the_model_says():
    given, picture = tiny_scorer(), data.astronaut()[:100, :100]
    view = {key: jnp.asarray(value)[None] for key, value in make_view(picture, RULE).items()}
    whole, tiles = (view[key] / 255.0 for key in ("whole", "tiles"))
    look = jax.jit(lambda params, *views: given.model.apply({"params": params}, *views)[1])
    out = look(given.params, whole, view["valid"], tiles, view["tile_boxes"])
    found = Reader(given.model, given.params, RULE)(picture)
    expected = np.concatenate([np.asarray(out[name]) for name in REPRESENTATIONS])
    assert found == pytest.approx(expected, abs=1e-5) and found.shape == (4, out["d"].shape[1])
    rows = stacked([found, found + 1])
    assert rows["q"].shape == (2, found.shape[1]) and (rows["q"][1] == found[1] + 1).all()


class StubExaminer:
    """Its pictures are of one color, that of their type and photograph."""

    def __init__(self, model, params, names, photos, seed):
        self.names, self.count, self.shape = names, len(photos), photos.shape[1:]

    def drawn(self, name, count):
        colors = (8 * list(CLASS_OF).index(name) + np.arange(self.count)) / 255.0
        images = np.broadcast_to(colors[:, None, None, None], (self.count, *self.shape)).astype(np.float32)
        return np.linspace(0.5, 1, count), [images] * count

    def restoration(self, progress, names):
        shape = (len(names), 5, self.count)
        found = [np.full(shape, level) for level in (20.0, 22.0, 21.0, 0.5, 0.6)]
        return Restoration(names, np.zeros((len(names), 5)), *found, np.full(self.count, 40.0))


def test_degraded_pictures_are_read_with_their_class_and_photograph():
    names = ("white_noise", "brighten", "darken", "never_heard_of")
    examiner = StubExaminer(None, None, names, np.zeros((3, 8, 8, 3)), 0)
    seen, labels, photos = probes.read_degraded(examiner, lambda picture: picture[:1, :4, 0].T.astype(float), 3)
    assert classes(names) == ("white_noise", "tone")
    assert labels.tolist() == [0] * 6 + [1] * 12 and photos.tolist() == [0, 1, 2] * 6
    place = list(CLASS_OF).index("brighten")
    assert seen["q"][6:9, 0].tolist() == [8 * place, 8 * place + 1, 8 * place + 2]


@pytest.fixture
def command(tmp_path, monkeypatch):
    (tmp_path / "pristine").mkdir()
    for i in range(6):
        Image.fromarray(data.astronaut()[20 * i : 20 * i + 240, 100:340]).save(tmp_path / "pristine" / f"{i}.png")
    monkeypatch.setattr(scorer, "load", lambda *args, **options: tiny_scorer())
    monkeypatch.setattr(examination, "Examiner", StubExaminer)
    folders = ["--pristine", str(tmp_path / "pristine"), "--probes", str(tmp_path / "out")]
    return ["evaluate", "--data", "fake", "--split", "all", "--bootstrap", "50", *folders]


def test_the_command_writes_figures_and_provenance(command, tmp_path, capsys):
    assert main(command) == 0
    found = json.loads((tmp_path / "out" / "probes.json").read_text())
    assert found["classes"] == 2 and found["restoring"]["difference"]["value"] == 1
    assert set(found["mos"]) == set(found["types"]) == {"d", "q", "d~", "q~"}
    assert found["provenance"]["sha256"] == tiny_scorer().sha256 and found["provenance"]["side"] == 224
    assert len(found["provenance"]["photographs"]) == 6 and found["mos"]["d"]["srcc"]["n"] == 64
    table = (tmp_path / "out" / "probes.md").read_text()
    assert "| PSNR gained by R, dB | shuffled d | 1.000 [1.000, 1.000] |" in table
    assert table.count("degradation named from it, of 2") == 4 and table.count("CKA on") == 4


def test_what_cannot_be_probed_is_refused(command, tmp_path, capsys):
    for path in sorted((tmp_path / "pristine").iterdir())[2:]:
        path.unlink()
    assert main(command) == 2
    assert "2 pristine photographs; give at least 5" in capsys.readouterr().err
    assert main([*command, "--model", "none"]) == 2
    assert "--probes: needs a model" in capsys.readouterr().err
