"""`python -m benchmarks degradations` writes the measurements that it defines."""

import json

import numpy as np
import pytest

from benchmarks import degradations as bench
from driqa_jax.degradations import chains


def test_the_benchmark_writes_its_measurements(tmp_path, capsys, monkeypatch, root):
    # All degradations take a minute to compile, and this test is about the measuring: one addition for each type.
    monkeypatch.setattr(chains, "_branch", lambda entry: lambda key, photos, severity, ids: photos + severity)
    monkeypatch.setattr(bench.pretrain, "degrade", lambda config, photos, index, step: (photos, step))
    monkeypatch.setattr(bench, "make_step", lambda *unused: lambda run, batch: (run, batch["photo"].sum()))
    fresh = {"a": {"kernel": np.zeros((2, 2))}}
    monkeypatch.setattr(bench.initialization, "random_pretraining_params", lambda *unused: fresh)
    words = ["--side", "32", "--names", "brighten,motion_blur", "--repeats", "2", "--recipe", "pairs"]
    words += ["--config", str(root / "configs" / "pretrain_lite.py")]
    assert bench.main([*words, "--json", str(tmp_path / "b.json")]) == 0
    found = json.loads((tmp_path / "b.json").read_text())
    assert list(found["operations"]) == ["brighten", "motion_blur"]
    assert all(rate["images_per_second"] > 0 for rate in found["operations"].values())
    assert found["recipe_images_per_second"] > 0
    assert 0 < found["peak_rss_mib"]["before"] <= found["peak_rss_mib"]["after_recipe"]
    assert found["pretraining"]["share"] == pytest.approx(
        found["pretraining"]["recipe_seconds"] / found["pretraining"]["step_seconds"]
    )
    assert "motion_blur" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        bench.main(["--names", "blur"])
