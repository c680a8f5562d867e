"""A corpus: the same bytes whatever stopped it, read back through tfds, and never two in one folder."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from skimage import data

from driqa_jax.cli import main as cli
from driqa_jax.corpus import make as making
from driqa_jax.data.open import open_source
from driqa_jax.data.pipeline import pretrain_batches
from driqa_jax.degradations import CLEAN, NAMES, sample_chains
from driqa_jax.errors import UserError
from driqa_jax.train import rng
from driqa_jax.train.config import default
from driqa_jax.train.stages import pretrain


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(3):
        Image.fromarray(data.astronaut()[40 * i : 40 * i + 64, 200:260]).save(folder / f"{i}.png")
    return folder


def small(photos):
    config = default()
    config.stage, config.batch_size = "pretrain", 2
    config.data.kind, config.data.path, config.data.name, config.data.train = "photos", str(photos), "", "train"
    config.pretrain.crop, config.pretrain.chains = 32, 2
    config.pretrain.recipe.p_clean = 0.3
    with config.unlocked():
        config.pretrain.recipe.names = ("motion_blur", "white_noise", "jpeg", "brighten")
    config.corpus.count, config.corpus.shard_size = 20, 8
    return config


@pytest.fixture
def config(photos):
    return small(photos)


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """A corpus made in one go."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, making.make(small(photos), folder)


def test_records_hold_pairs_and_what_was_done(config, whole):
    folder, manifest = whole
    assert manifest["complete"] and [s["records"] for s in manifest["shards"].values()] == [8, 8, 4]
    records = tfds.builder_from_directory(folder).as_data_source("train")
    assert len(records) == 20 and len({record["key"] for record in records}) == 20
    source = open_source("photos", config.data.path)
    stream = pretrain_batches(source, 32, 2, config.seed)

    @jax.jit
    def draw(step):
        key = jax.random.fold_in(rng.stream(config.seed, "chains", step), 0)  # of the only block
        return sample_chains(key, pretrain.recipe(config), 2)

    place = 0
    for step in range(5):
        batch, chains = next(stream), draw(step)
        for chain, (types, severities) in enumerate(zip(*map(np.asarray, chains), strict=True)):
            for photo in range(2):
                record = records[place]
                np.testing.assert_array_equal(record["clean"], batch["photo"][photo])
                assert [name.decode() for name in record["types"]] == [NAMES[t] for t in types if t != CLEAN]
                np.testing.assert_allclose(record["severities"], severities[types != CLEAN])
                assert (record["index"], record["chain_id"]) == (batch["index"][photo], 2 * step + chain)
                original = np.asarray(Image.open(f"{config.data.path}/{record['photo_id'].decode()}"))
                assert _holds(original, record["clean"])
                same = np.array_equal(record["image"], record["clean"])
                assert same == (len(record["types"]) == 0)
                place += 1
    assert {len(record["types"]) for record in records} >= {0, 1}


def _holds(photo, crop):
    """Whether the crop, turned and mirrored in some way, lies in the photograph."""
    turned = [np.rot90(each, k) for each in (crop, crop[:, ::-1]) for k in range(4)]
    windows = np.lib.stride_tricks.sliding_window_view(photo, crop.shape)[:, :, 0]
    return any((windows == each[None, None]).all(axis=(2, 3, 4)).any() for each in turned)


def test_stopped_and_killed_it_goes_on_to_the_same_bytes(config, whole, tmp_path):
    def stop(task, done, total):
        if done == 13:  # in the second of three shards
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        making.make(config, tmp_path, stop)
    shards = sorted(file.name for file in tmp_path.glob("*array_record*"))
    assert len(shards) == 1
    first = (tmp_path / shards[0]).stat().st_mtime_ns
    # What kill -9 leaves: a growing file, and a whole one that was not yet entered.
    (tmp_path / f".{shards[0]}.1.part").write_bytes(b"half")
    (tmp_path / shards[0].replace("00000-of", "00001-of")).write_bytes(b"not entered")
    told = []
    manifest = making.make(config, tmp_path, lambda task, done, total: told.append((done, total)))
    assert (tmp_path / shards[0]).stat().st_mtime_ns == first and told[0] == (8, 20) and told[-1] == (20, 20)
    assert manifest == whole[1] and not list(tmp_path.glob(".*"))
    for name, entry in manifest["shards"].items():
        assert (tmp_path / name).read_bytes() == (whole[0] / name).read_bytes(), entry
    # A damaged shard is made again.
    (tmp_path / shards[0]).write_bytes(b"damaged")
    assert making.make(config, tmp_path)["shards"] == manifest["shards"]
    assert (tmp_path / shards[0]).read_bytes() == (whole[0] / shards[0]).read_bytes()


def test_two_processes_write_the_same_bytes(tmp_path, root):
    code = (
        "import pathlib, sys, numpy as np\n"
        "from driqa_jax.corpus import make\n"
        "picture = make.encode(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))\n"
        "record = dict(image=picture, clean=picture, types=['jpeg', 'haze'], severities=[.5, .25],\n"
        "              photo_id='a.png', index=3, chain_id=7, key='k')\n"
        "print(make.write_shard(pathlib.Path(sys.argv[1]), [record] * 5))\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code, tmp_path / "shard"], cwd=root, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert said[0] == said[1] and "'records': 5" in said[0]


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("seed", 1, r"another seed \(0; asked for is 1\)"),
        ("pretrain.recipe.name", "kadid", "another recipe,"),
        ("pretrain.crop", 40, r"another crop \(32; asked for is 40\)"),
        ("corpus.shard_size", 4, "another shard_size"),
        ("corpus.count", 10, "multiple, such as 8"),
        ("corpus.shard_size", 2, "multiple, such as 4"),
        ("stage", "finetune", "config.stage"),
        ("pretrain.recipe.name", "kadit", "did you mean 'kadid'"),
    ],
)
def test_another_corpus_in_the_folder_and_bad_settings_are_refused(config, whole, key, value, said):
    before = (whole[0] / making.MANIFEST).read_bytes()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=said):
        making.make(config, whole[0])
    assert (whole[0] / making.MANIFEST).read_bytes() == before


def test_other_versions_photographs_and_files_are_refused(config, whole, tmp_path, capsys):
    source = tmp_path / "photos"
    source.mkdir()
    Image.fromarray(data.astronaut()[:64, :64]).save(source / "0.png")
    config.data.path = str(source)
    with pytest.raises(UserError, match="another photographs"):
        making.make(config, whole[0])
    with pytest.raises(UserError, match="holds other files and no manifest.json"):
        making.make(config, source)
    manifest = json.loads((whole[0] / making.MANIFEST).read_text())
    described = {**manifest, "versions": {**manifest["versions"], "jax": "0.0"}}
    with pytest.raises(UserError, match=rf"another versions \(jax {manifest['versions']['jax']}, here 0.0\)"):
        making._claim(whole[0], described)
    (tmp_path / "c.py").write_text("from driqa_jax.train.config import default as get_config\n")
    assert cli.main(["degrade", "corpus", "--config", str(tmp_path / "c.py"), "-o", str(tmp_path / "x")]) == 2
    assert "config.stage is 'finetune'" in capsys.readouterr().err and not (tmp_path / "x").exists()
