"""Launch scripts run for tests, with stand-ins for the programs that they start."""

import contextlib
import functools
import os
import pathlib
import shlex
import signal
import stat
import subprocess
import time

LAUNCH = pathlib.Path(__file__).resolve().parent.parent / "launch"
TRAINING = ["--config", "my configs/a.py", "--workdir", "/data/it's here"]


def stand_in(folder, name, body):
    """An executable `name` that writes its arguments down in NAME.calls and goes on with `body`."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"""#!/usr/bin/env bash\nprintf '%s\\0' "$@" $'\\n' >>"{folder}/{name}.calls"\n{body}\n""")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


def calls(folder, name):
    """The words of each call, in order."""
    path = folder / f"{name}.calls"
    if not path.exists():
        return []
    return [record.split("\0")[:-1] for record in path.read_text().split("\n\0")[:-1]]


def environment(folder, **more):
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", **more}


def launch(script, *words, env=None, code=0):
    done = subprocess.run([LAUNCH / script, *words], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def dry(script, *words):
    """The commands of a dry run, each as its words; a comment as its text."""
    end = words.index("--") if "--" in words else len(words)
    lines = launch(script, *words[:end], "--dry-run", *words[end:]).stdout.splitlines()
    return [line if line.startswith("#") else shlex.split(line) for line in lines]


def begin(request, script, *words, **options):
    """Popen of a script that is not waited for; what is left of it at the end of the test is killed."""
    # Where the tests run in the background, Ctrl-C is ignored, and a shell leaves it so.
    attend = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen([LAUNCH / script, *words], start_new_session=True, preexec_fn=attend, **options)

    def end():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    request.addfinalizer(end)
    return process


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# Trains until it is told to stop, and saves then; the shell hears of a signal between two naps.
TRAINS = "trap 'echo saved; exit 143' TERM\necho trains\nwhile :; do sleep 0.05; done"
