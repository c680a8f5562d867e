"""Every code block of README.md and docs/ runs, or is at least read by the real parsers; see `documents.py`."""

import argparse
import ast
import contextlib
import importlib
import io
import re
import subprocess
import sys
import tomllib

import documents
import pytest
import stand_ins

from benchmarks.__main__ import BENCHMARKS
from driqa_jax.cli.main import build_parser
from driqa_jax.cli.train import parse_overrides
from driqa_jax.errors import UserError
from driqa_jax.train.config import read

ROOT = documents.ROOT
PAGES = documents.pages()
CODE = [block for page in PAGES for block in documents.blocks(page) if block.is_code]
SHELL = [block for block in CODE if block.language in documents.SHELL]
EXECUTED = {page: [b for b in CODE if b.page == page and b.kind in ("run", "stand-in")] for page in PAGES}
IN_REPOSITORY = re.compile(r"(configs|launch|tests|examples|tools|driqa_jax)/\S+|docs/[^/\s]+\.(py|md)")


class Parsed(Exception):
    """Raised in place of what a benchmark does with its arguments."""


def by_place(blocks):
    return [pytest.param(block, id=block.place) for block in blocks]


def pages_with(when):
    found = [page for page in PAGES if any(block.when in when for block in EXECUTED[page])]
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_marked(page):
    assert not documents.problems(page)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A folder with all that the documents name."""
    folder = tmp_path_factory.mktemp("reader")
    stand_ins.fill(folder)
    return folder


@pytest.mark.parametrize("block", by_place(SHELL))
def test_shell_blocks_name_real_options_files_and_extras(block, reader):
    done = subprocess.run(["bash", "-n", "-c", block.text], capture_output=True, text=True)
    assert done.returncode == 0, f"{block.place}: {done.stderr}"
    for words in block.commands():
        with contextlib.chdir(reader):
            check_command(words, block)


@pytest.mark.parametrize("block", by_place(b for b in CODE if b.language == "python"))
def test_python_blocks_parse(block):
    ast.parse(block.text, filename=block.place)


@pytest.mark.long
@pytest.mark.parametrize("page", pages_with([""]))
def test_blocks_run(page, tmp_path, monkeypatch):
    execute([block for block in EXECUTED[page] if not block.when], tmp_path, monkeypatch, tiny=True)


@pytest.mark.long
@pytest.mark.parametrize("page", pages_with(["long"]))
def test_training_blocks_run(page, tmp_path, monkeypatch):
    execute([block for block in EXECUTED[page] if block.when != "ci"], tmp_path, monkeypatch, tiny=True)


@pytest.mark.long
@pytest.mark.parametrize("page", pages_with([""]))
def test_blocks_run_with_the_bundled_weights(page, tmp_path, monkeypatch):
    execute([block for block in EXECUTED[page] if not block.when], tmp_path, monkeypatch, tiny=False)


def test_ci_runs_the_installation_blocks_of_the_readme():
    found = documents.ci_blocks()
    assert any("driqa score" in block.text for block in found) and any("pytest" in block.text for block in found)
    assert "tests/documents.py" in (ROOT / ".ci" / "run").read_text()


def test_what_is_not_marked_is_refused_by_file_and_line(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n    driqa score a.jpg\n\n```\nx\n```\n```text\nx\n```\n"
        "<!-- dry-run -->\n```shell\ndriqa score\n```\n"
        "- item\n\n    of the item\n\n<!-- stand-in -->\n\n    import driqa_jax\n    x = 1\n"
    )
    indented, untagged, *others = documents.problems(page)
    assert indented.startswith(f"{page}:3: the shell block has no mark")
    assert untagged.startswith(f"{page}:6: the fence names no language")
    assert not others
    assert [(b.language, b.kind) for b in documents.blocks(page)[-2:]] == [("shell", "dry-run"), ("python", "stand-in")]
    page.write_text("<!-- dry-run long -->\n```shell\nx\n```\n")
    assert "'long' does not go with" in documents.problems(page)[0]


def test_commands_of_a_block_are_its_shell_words():
    text = "a=1\nx 'b c' | driqa score - > out  # note\n$ driqa train \\\n  --config F.py && b=2 driqa info\n"
    block = documents.Block(ROOT / "x.md", 1, "shell", text, "run", "")
    expected = [["x", "b c"], ["driqa", "score", "-"], ["driqa", "train", "--config", "F.py"], ["driqa", "info"]]
    assert block.commands() == expected


@pytest.mark.parametrize(
    "command",
    [
        "driqa score --nonesuch photos",
        "driqa train --config configs/smoke.py --workdir d --config.nonesuch=1",
        "driqa train --config configs/nonesuch.py --workdir d",
        "python -m benchmarks step --nonesuch 2",
        "driqa data nonesuch",
        "python docs/nonesuch.py",
        "pip install '.[nonesuch]'",
        "launch/slurm.sh --nonesuch -- --workdir d",
    ],
)
def test_a_command_that_cannot_work_fails_the_check(command, reader, monkeypatch):
    monkeypatch.chdir(reader)
    block = documents.Block(ROOT / "x.md", 1, "shell", command, "dry-run", "")
    (words,) = block.commands()
    with pytest.raises((AssertionError, UserError), match="nonesuch"):
        check_command(words, block)


def check_command(words, block):
    """Files of the repository exist; the command's own parser accepts its arguments."""
    program, *arguments = words
    for word in words:
        for part in (word, word.partition("=")[2]):
            if IN_REPOSITORY.fullmatch(part):
                assert (ROOT / part).exists(), f"{block.place}: {part} does not exist"
    if program == "driqa":
        check_driqa(arguments, block)
    elif arguments[:2] == ["-m", "benchmarks"]:
        name, *options = arguments[2:]
        assert name in BENCHMARKS, f"{block.place}: no benchmark {name}"
        args, rest = parsed_by_benchmark(name, options, block)
        check_overrides(args, rest)
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for named in re.findall(r"\[([\w,-]+)\]", " ".join(arguments)):
            assert set(named.split(",")) <= set(extras), f"{block.place}: no such extra: {named}"
    elif program.startswith("launch/") and block.kind == "dry-run":
        end = arguments.index("--") if "--" in arguments else len(arguments)
        asked = [program, *arguments[:end], "--dry-run", *(word for word in arguments[end:] if word != "...")]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{block.place}: {done.stderr}"


def check_driqa(arguments, block):
    """The parsers of `driqa`, of a benchmark, and of configuration keys. `...` stands for arguments left out."""
    parser = build_parser()
    if "..." in arguments:
        arguments = [word for word in arguments if word != "..."]
        relax(parser)
    args, rest = parsed(parser, arguments, block)
    assert not rest or hasattr(args, "overrides") or args.command is None, f"{block.place}: unknown arguments {rest}"
    check_overrides(args, rest)


def check_overrides(args, rest):
    """The configuration keys of `--config.KEY=VALUE` exist."""
    overrides = parse_overrides(rest)
    for config in args.config if isinstance(getattr(args, "config", None), list) else [getattr(args, "config", None)]:
        if config and "/" in config:
            read(config, overrides)


def parsed(parser, arguments, block):
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parser.parse_known_args(arguments)
    except SystemExit:
        raise AssertionError(f"{block.place}: driqa {' '.join(arguments)}: {said.getvalue()}") from None


def parsed_by_benchmark(name, arguments, block):
    """The arguments as the benchmark's own parser reads them, without running it."""
    real = argparse.ArgumentParser.parse_known_args

    def stop(parser, *given, **options):
        found = real(parser, *given, **options)
        if parser.prog.startswith("python -m benchmarks"):
            raise Parsed(*found)
        return found

    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        try:
            importlib.import_module(f"benchmarks.{name}").main(arguments)
        except Parsed as found:
            args, rest = found.args
        except SystemExit:
            raise AssertionError(f"{block.place}: benchmarks {name}: {said.getvalue()}") from None
    args.command = None
    return args, rest


def relax(parser):
    """No argument is required, where `...` may stand for it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                relax(each)
        elif action.option_strings:
            action.required = False
    for group in parser._mutually_exclusive_groups:
        group.required = False


def execute(blocks, tmp_path, monkeypatch, tiny):
    """Run a page's blocks in order: one folder, one namespace."""
    folder = tmp_path / "reader"
    folder.mkdir()
    stand_ins.fill(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["block", "lite.stablehlo", "photo.jpg"])
    if tiny:
        stand_ins.use_tiny_lite(monkeypatch, tmp_path)
    namespace = {"__name__": "block", **stand_ins.names()}
    with stand_ins.small_sets():
        for block in blocks:
            if block.language in documents.SHELL:
                code, output = stand_ins.run_shell(block.text, ROOT if block.kind == "run" else folder, tmp_path / "s")
                assert code == 0, f"{block.place}: exit code {code}\n{output[-6000:]}"
            else:
                run_python(block, namespace)


def run_python(block, namespace):
    try:
        exec(compile(block.text, block.place, "exec"), namespace)
        if "get_config" in namespace:
            namespace.pop("get_config")()
    except Exception as error:
        error.add_note(f"in the block at {block.place}")
        raise
