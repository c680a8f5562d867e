"""A workdir that version 0.5 saved loads, scores and resumes.

`workdir.tar.xz` holds a training of 3 steps that SIGTERM stopped after 2, saved by commit 40d6d98, before the package
was reorganized, without the array files that Orbax no longer refers to. `outputs.npz` holds what that commit computed.
"""

import tarfile

import jax
import numpy as np
import pytest
from tiny_model import smallest, views_of_noise

from driqa_jax.checkpoints.load import load
from driqa_jax.degradations import NAMES
from driqa_jax.models import driqa
from driqa_jax.train import loop
from driqa_jax.train.config import default


@pytest.fixture(scope="module", autouse=True)
def smallest_variant():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(driqa.VARIANTS, "smallest", smallest)
        yield


@pytest.fixture
def workdir(root, tmp_path):
    with tarfile.open(root / "tests" / "data" / "checkpoint_0_5" / "workdir.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def stored(root):
    return np.load(root / "tests" / "data" / "checkpoint_0_5" / "outputs.npz")


def outputs(workdir):
    loaded = load(workdir)
    model = driqa.build_model(loaded.config)
    views = views_of_noise(batch=2, tiles=2, canvas=(64, 64), tile=64)
    mos, out = jax.jit(lambda params, *views: model.apply({"params": params}, *views))(loaded.params, *views)
    return loaded.metadata, {"mos": mos, **out}


def test_it_loads_and_gives_the_outputs_of_version_0_5(workdir, stored):
    metadata, found = outputs(workdir)
    assert metadata["variant"] == "smallest" and metadata["degradations"] == list(NAMES[:34])
    assert metadata["provenance"]["step"] == 2 and metadata["provenance"]["examples"] == 16
    for name in ("mos", "d_tilde", "q_tilde", "severity", "mos_aux"):
        np.testing.assert_allclose(found[name], stored[name], atol=1e-5, rtol=1e-5, err_msg=name)


@pytest.mark.long
def test_it_resumes_and_gives_the_outputs_of_the_step_after(workdir, stored, capsys):
    config = default()
    config.model.types, config.model.variant = NAMES[:34], "smallest"
    config.data.kind, config.data.fake_count, config.data.threads = "fake", 24, 1
    config.view.short, config.view.canvas, config.view.tile = 64, (64, 64), 64
    config.batch_size, config.steps, config.log_every = 8, 3, 1
    config.loss.plcc, config.init = 0.5, "start.safetensors"  # which a resumed run does not need
    assert loop.train(config, str(workdir)) == 0
    assert "resumed at step 2" in capsys.readouterr().err
    metadata, found = outputs(workdir)
    assert metadata["provenance"]["step"] == 3
    np.testing.assert_allclose(found["mos"], stored["mos_after_step_3"], atol=1e-5, rtol=1e-5)
    assert np.abs(stored["mos_after_step_3"] - stored["mos"]).max() > 1e-4, "the step changes what is compared"
