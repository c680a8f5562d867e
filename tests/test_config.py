"""Configurations: every file loads from anywhere, and what cannot be is refused in a line that helps."""

import os
import pathlib
import subprocess
import sys

import ml_collections
import pytest
from flax import traverse_util

from driqa_jax.cli.main import main
from driqa_jax.errors import UserError
from driqa_jax.models.ablations import DEFAULTS
from driqa_jax.train.config import KEYS, default, help_text, migrate_config, read

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "configs").glob("*.py"))


def keys(config):
    """Dotted names of all leaves."""
    return list(traverse_util.flatten_dict(config.to_dict(), keep_empty_nodes=True, sep="."))


@pytest.fixture
def written(tmp_path):
    """Write a config file whose get_config() runs `body` on the default."""

    def write(body):
        path = tmp_path / "mine.py"
        path.write_text(
            "from driqa_jax.train.config import default\n\n"
            f"def get_config():\n    config = default()\n    {body}\n    return config\n"
        )
        return path

    return write


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_config_loads_from_another_folder_and_opens_with_its_command(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = read(os.path.relpath(path, tmp_path))
    assert keys(config) == keys(default())
    command = "degrade corpus" if path.name.startswith("corpus") else "train"
    assert f"driqa {command} --config configs/{path.name} " in path.read_text().split('"""')[1].replace("\\\n", "")


def test_a_config_needs_no_file_of_the_repository(tmp_path):
    copy = tmp_path / "smoke.py"
    copy.write_text((ROOT / "configs" / "smoke.py").read_text())
    code = f"from driqa_jax.train.config import read; print(read({str(copy)!r}).data.kind)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "fake\n"), done.stderr


def test_the_default_is_locked_and_what_is_read_is_frozen(written):
    with pytest.raises(AttributeError, match="locked"):
        default().optim.momentum = 0.9
    config = read(written("config.optim.lr = 1e-3"))
    assert config.optim.lr == 1e-3
    with pytest.raises(AttributeError):
        config.optim.lr = 1e-4


def test_overrides_are_parsed_as_their_key_wants_them(written):
    overrides = {
        "optim.lr": ("1", 1.0),
        "epochs": ("2.5", 2.5),
        "optim.weight_decay": ("1e-4", 1e-4),
        "seed": ("7", 7),
        "data.halve": ("True", True),
        "data.path": ("a=b, c.csv", "a=b, c.csv"),
        "data.name": ("", ""),
        "init": ("3", "3"),
        "view.canvas": ("(64, 96)", (64, 96)),
        "data.mos_range": ("[1, 5]", (1, 5)),
        "pretrain.recipe.step_weights": ("0.5,0.5", (0.5, 0.5)),
        "optim.frozen": ("()", ()),
        "optim.groups": ("(('predictor/*', 2.0),)", (("predictor/*", 2.0),)),
    }
    config = read(written("pass"), [f"{key}={text}" for key, (text, _) in overrides.items()])
    for key, (_, value) in overrides.items():
        found = config
        for name in key.split("."):
            found = found[name]
        assert found == value and type(found) is type(value), key
    assert isinstance(config, ml_collections.FrozenConfigDict)


@pytest.mark.parametrize(
    "override, nearest",
    [("optim.lrr=1", "optim.lr"), ("bacth_size=8", "batch_size"), ("optim=3", "optim.lr"), ("x=1", "")],
)
def test_an_unknown_key_is_refused_naming_the_nearest(written, override, nearest):
    with pytest.raises(
        UserError,
        match=rf"--config\.{override.split('=')[0]}: no such key; the nearest is --config\.{nearest}",
    ):
        read(written("pass"), [override])


@pytest.mark.parametrize(
    "override, expected",
    [
        ("optim.lr=fast", "float"),
        ("optim.lr=True", "float"),
        ("steps=1.5", "int"),
        ("steps=True", "int"),
        ("data.halve=1", "bool"),
        ("data.halve=yes", "bool"),
        ("view.canvas=64", "tuple"),
        ("view.canvas=(64,", "tuple"),
    ],
)
def test_a_value_of_another_type_is_refused(written, override, expected):
    with pytest.raises(UserError, match=f"expected {expected}, as in"):
        read(written("pass"), [override])


def test_an_override_without_a_value_is_refused(written):
    with pytest.raises(UserError, match="write --config.KEY=VALUE"):
        read(written("pass"), ["steps"])


@pytest.mark.parametrize(
    "body, said", [("config.optim.lrr = 1.0", 'Did you mean "lr"'), ("config.optim.lr = 'x'", "lr")]
)
def test_a_config_file_that_sets_what_is_not_there_is_refused_naming_it(written, body, said):
    path = written(body)
    with pytest.raises(UserError, match=said) as refused:
        read(path)
    assert str(path) in str(refused.value)


def test_what_is_no_config_file_is_refused_naming_it(tmp_path):
    with pytest.raises(UserError, match="absent.py: no such config file"):
        read(tmp_path / "absent.py")
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(UserError, match=r"empty.py: a config file must define get_config\(\)"):
        read(tmp_path / "empty.py")
    for body in ("pass", "return {'seed': 1}"):
        (tmp_path / "empty.py").write_text(f"def get_config():\n    {body}\n")
        with pytest.raises(UserError, match="empty.py: .* which returns a ConfigDict"):
            read(tmp_path / "empty.py", ["seed=1"])
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(UserError, match="config.yaml: .*Python"):
        read(tmp_path / "config.yaml")


def test_a_broken_config_file_is_refused_naming_it_and_the_error(tmp_path):
    for body, said in (
        ("def get_config(:", "SyntaxError"),
        ("import absent_module", "ModuleNotFoundError"),
        ("1 / 0", "ZeroDivisionError"),
    ):
        (tmp_path / "broken.py").write_text(body + "\n")
        with pytest.raises(UserError, match=f"broken.py: {said}"):
            read(tmp_path / "broken.py")


def test_every_key_has_one_default_and_one_meaning():
    config = default()
    assert sorted(KEYS) == sorted(keys(config)) and all(key.meaning.endswith(".") for key in KEYS.values())
    assert config.to_dict() == traverse_util.unflatten_dict({name: key.default for name, key in KEYS.items()}, sep=".")
    lines = help_text().splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")] == list(KEYS)
    assert "optim.lr: float = 0.0005" in lines and "    Peak learning rate." in lines


def test_the_command_prints_the_keys(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--help-config"])
    assert ended.value.code == 0 and capsys.readouterr().out.strip() == help_text()


def test_keys_that_older_runs_lack_have_the_value_that_was_built_in():
    later = {
        "data": {"sources": {}, "split_file": "", "score_column": "", "split_column": "", "images": "", "fold": 0},
        "view": {"kind": "dual", "shrink": 1.0, "quality": 100},
        "cache": {"dtype": "float16"},
        "backbone": "",
        "compute": "float32",
        "accumulate": 1,
        "loss": {"restoration_distance": "charbonnier", "rank": 0.0, "same": 0.0},
        "rank": {"every": 4, "often": []},
        "twins": {"every": 4, "shrink": 0.8, "quality": 85},
        "model": {"statistics": False, "median": False, **DEFAULTS},
    }
    filled = migrate_config({})
    for group, values in later.items():
        found = {key: filled[group][key] for key in values} if isinstance(values, dict) else filled[group]
        assert found == values, group
