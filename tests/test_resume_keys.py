"""One list says which keys may change when a training or a protocol's run is resumed; every other key is refused."""

import dataclasses
import json

import ml_collections
import pytest
from flax import traverse_util

from driqa_jax.errors import UserError
from driqa_jax.protocol.plan import Run
from driqa_jax.protocol.record import claim_folder, plain_values
from driqa_jax.train import config as configuration
from driqa_jax.train import loop

FREE = {
    "cache.folder", "checkpoint.keep", "checkpoint.minutes", "checkpoint.steps", "corpus.count", "corpus.shard_size",
    "data.path", "data.threads", "eval_every", "log_every", "parallel", "profile", "remat",
}  # fmt: skip


def changed(key):
    """The default configuration with another value of one key."""
    flat = traverse_util.flatten_dict(configuration.default().to_dict(), keep_empty_nodes=True, sep=".")
    assert key in flat
    flat[key] = "another value"
    return traverse_util.unflatten_dict(flat, sep=".")


def refused(action):
    """The keys that a refusal names; none where there is no refusal."""
    try:
        action()
    except UserError as error:
        return str(error).partition("differs in ")[2].partition(")")[0].split(", ")
    return []


@pytest.fixture
def run():
    return Run("row", 0, None, configuration.default().to_dict(), "", (), ("last",), 0)


@pytest.mark.parametrize("key", configuration.KEYS)
def test_training_and_protocol_agree_on_every_key(key, run, tmp_path):
    config = changed(key)
    (tmp_path / "config.json").write_text(json.dumps(run.config))
    of_training = refused(lambda: loop._claim(tmp_path, ml_collections.ConfigDict(config), True, True))
    claim_folder(run, tmp_path)
    of_protocol = refused(lambda: claim_folder(dataclasses.replace(run, config=config), tmp_path))
    assert of_training == ([] if key in FREE else [key])
    assert of_protocol == [f"config.{name}" for name in of_training]


def test_where_the_best_evaluation_is_kept_their_steps_are_part_of_the_run(run, tmp_path):
    for checkpoints in (("last", "val_selected"), ("last", "best_on_test")):
        mine = dataclasses.replace(run, checkpoints=checkpoints)
        folder = tmp_path / checkpoints[1]
        claim_folder(mine, folder)
        assert json.loads((folder / "plan.json").read_text()) == plain_values(mine)
        other = dataclasses.replace(mine, config=changed("eval_every"))
        assert refused(lambda other=other, folder=folder: claim_folder(other, folder)) == ["config.eval_every"]
        assert not refused(lambda: claim_folder(dataclasses.replace(mine, config=changed("log_every")), folder))  # noqa: B023
