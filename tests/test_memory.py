"""A training's process starts again with the allocator's settings; any other is left alone."""

import os
import platform
import subprocess
import sys

import pytest

from driqa_jax.cli import memory

LOOK = (
    "import os, sys; from driqa_jax.cli.memory import keep_memory; "
    "keep_memory(sys.argv[1].split()); print(os.getpid(), os.environ.get('GLIBC_TUNABLES', '-'))"
)


def settings_of(command, **environment):
    kept = {name: value for name, value in os.environ.items() if name != memory.VARIABLE}
    process = subprocess.Popen(
        [sys.executable, "-c", LOOK, command], env={**kept, **environment}, stdout=subprocess.PIPE, text=True
    )
    said, _ = process.communicate(timeout=60)
    number, found = said.split()
    assert int(number) == process.pid and process.returncode == 0
    return found


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_a_training_starts_again_once_under_the_same_number():
    assert "glibc.malloc.hugetlb=1" in settings_of("train")
    assert "glibc.malloc.hugetlb=1" in settings_of("bench train --steps 2")


def test_others_and_who_has_settings_are_left_alone():
    assert settings_of("score") == "-"
    assert settings_of("bench score") == "-"
    assert settings_of("train", GLIBC_TUNABLES="glibc.malloc.top_pad=1") == "glibc.malloc.top_pad=1"
