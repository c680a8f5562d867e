"""Long commands restart with the allocator settings; other commands do not."""

import os
import platform
import subprocess
import sys

import pytest

from driqa_jax.cli.main import TUNABLES_VARIABLE

LOOK = (
    "import os, sys; from driqa_jax.cli.main import keep_memory; "
    "keep_memory(sys.argv[1].split()); print(os.getpid(), os.environ.get('GLIBC_TUNABLES', '-'))"
)


def settings_of(command, **environment):
    kept = {name: value for name, value in os.environ.items() if name != TUNABLES_VARIABLE}
    process = subprocess.Popen(
        [sys.executable, "-c", LOOK, command], env={**kept, **environment}, stdout=subprocess.PIPE, text=True
    )
    output, _ = process.communicate(timeout=60)
    number, found = output.split()
    assert int(number) == process.pid and process.returncode == 0
    return found


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_a_long_command_restarts_once_with_the_same_process_id():
    assert "glibc.malloc.hugetlb=1" in settings_of("train")
    assert "glibc.malloc.hugetlb=1" in settings_of("protocol --workdir x")


def test_other_commands_and_existing_settings_are_kept():
    assert settings_of("score") == "-"
    assert settings_of("bench score") == "-"
    assert settings_of("train", GLIBC_TUNABLES="glibc.malloc.top_pad=1") == "glibc.malloc.top_pad=1"
