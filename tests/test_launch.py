"""The launch scripts: what they would run, and what they do when the programs that they start behave as told.

No cloud and no cluster is asked: gcloud, sbatch, srun, scontrol and driqa are small stand-ins that write down how they
were called.
"""

import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
import yaml
from launching import LAUNCH, TRAINING, TRAINS, begin, calls, dry, environment, launch, stand_in, until

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="wants bash")

SCRIPTS = sorted(path.name for path in LAUNCH.glob("*.sh"))


# ---- all of them


# It comes with the extra `test`, beside the interpreter, which need not be on PATH.
SHELLCHECK = shutil.which("shellcheck", path=f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.mark.skipif(SHELLCHECK is None, reason="wants shellcheck")
def test_scripts_pass_shellcheck():
    found = subprocess.run([SHELLCHECK, "-x", *SCRIPTS], cwd=LAUNCH, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    "script", ["kubernetes.sh", "one_host.sh", "rebuild_lite.sh", "slurm.sh", "sweep.sh", "tpu.sh"]
)
def test_help_is_the_comment_at_the_top_and_a_wrong_option_is_a_usage_error(script):
    shown = launch(script, "--help").stdout
    assert f"launch/{script} " in shown and "--dry-run" in shown and "set -euo" not in shown
    wrong = launch(script, *(["create"] if script == "tpu.sh" else []), "--frobnicate", code=2).stderr
    assert "--frobnicate" in wrong and wrong.startswith(f"{script}: ")


# ---- TPU

TPU = ["--name", "pod", "--zone", "us-west4-a"]
PLACE = ["pod", "--zone=us-west4-a"]
DESCRIBE = ["gcloud", "compute", "tpus", "queued-resources", "describe", *PLACE, "--format=value(state.state)"]
CREATE = ["gcloud", "compute", "tpus", "queued-resources", "create", "pod", "--node-id=pod", "--zone=us-west4-a"]
CREATE += ["--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite", "--spot"]
DELETE = ["gcloud", "compute", "tpus", "queued-resources", "delete", *PLACE, "--force", "--quiet"]


def on_hosts(hosts, *words):
    ssh = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", *PLACE, f"--worker={hosts}"]
    return [*ssh, f"--command={' '.join(words)}"]


def worker(*words):
    return on_hosts("all", "bash", "driqa_jax/launch/tpu_worker.sh", *words)


def test_tpu_dry_run_prints_every_command():
    assert dry("tpu.sh", "create", *TPU, "--spot") == [CREATE, DESCRIBE]
    archive, copy, *rest = dry("tpu.sh", "setup", *TPU, "--nfs", "10.0.0.2:/share")
    packed = archive[-2].removeprefix("--output=")
    assert archive[:4] == ["git", "-C", f"{LAUNCH}/..", "archive"] and archive[-1] == "HEAD"
    scp = ["gcloud", "compute", "tpus", "tpu-vm", "scp", packed, "pod:driqa_jax.tar.gz", "--zone=us-west4-a"]
    assert copy == [*scp, "--worker=all"]
    assert rest == [
        on_hosts("all", "mkdir", "-p", "driqa_jax"),
        on_hosts("all", "tar", "-xzf", "driqa_jax.tar.gz", "-C", "driqa_jax"),
        worker("install", "10.0.0.2:/share"),
    ]
    start = worker("start", "--config", "'my configs/a.py'", "--workdir", r"'/data/it'\''s here'", "--distributed auto")
    assert dry("tpu.sh", "start", *TPU, "--", *TRAINING) == [start]
    # The other end of ssh is a shell again: it must read the words as they were given.
    assert shlex.split(start[-1].removeprefix("--command="))[3:-2] == TRAINING
    assert dry("tpu.sh", "logs", *TPU) == [on_hosts("0", "tail", "-n", "100", "-F", "driqa_run/log")]
    assert dry("tpu.sh", "state", *TPU) == [DESCRIBE, worker("state")]
    assert dry("tpu.sh", "stop", *TPU) == [worker("stop")]
    assert dry("tpu.sh", "delete", *TPU) == [DELETE]
    watch = dry("tpu.sh", "watch", *TPU, "--spot", "--", *TRAINING)
    first, again = watch.index("# where there is none yet:"), watch.index("# where it was preempted:")
    assert watch[first + 1] == CREATE and watch[again + 1 : again + 3] == [DELETE, CREATE] and watch[-1] == start


def test_tpu_says_what_is_missing():
    assert "--zone is missing" in launch("tpu.sh", "create", "--name", "pod", code=2).stderr
    assert "after -- come the arguments of driqa train" in launch("tpu.sh", "start", *TPU, code=2).stderr
    assert "the commands are create, setup" in launch("tpu.sh", "fly", code=2).stderr


@pytest.mark.long
@pytest.mark.skipif(shutil.which("gcloud") is None, reason="wants gcloud, which reads the commands and asks nobody")
def test_gcloud_knows_every_option_of_the_tpu_commands(tmp_path):
    words = ["--spot", "--nfs", "10.0.0.2:/share", "--", "--config", "a.py", "--workdir", "/mnt/driqa/run"]
    commands = [*dry("tpu.sh", "watch", *TPU, "--project", "p", *words), *dry("tpu.sh", "logs", *TPU)]
    texts = sorted({shlex.join(command) for command in commands if command[0] == "gcloud"})
    file = tmp_path / "commands.json"
    file.write_text(json.dumps([{"command_string": text} for text in texts]))
    lint = ["gcloud", "meta", "lint-gcloud-commands", "--commands-file", str(file), "--quiet"]
    env = {**os.environ, "CLOUDSDK_CONFIG": str(tmp_path / "config"), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
    found = json.loads(subprocess.run(lint, env=env, capture_output=True, text=True, check=True).stdout)
    assert len(found) == len(texts) >= 7
    assert [each for each in found if not each["success"]] == []


# A TPU whose state, and whose trainings, are lines of a file, one a question.
GCLOUD = """
answer() { sed -n 1p "$1"; sed -i 1d "$1"; }
case "$*" in
  *describe*)
    state=$(answer "FOLDER/states")
    if [ "$state" = NOT_FOUND ]; then echo "ERROR: NOT_FOUND: no such resource" >&2; exit 1; fi
    echo "$state" ;;
  *"tpu_worker.sh state"*) answer "FOLDER/trainings" | tr , '\\n' ;;
esac
"""


def watched(tmp_path, states, trainings, code=0):
    """What `tpu.sh watch` asked gcloud to do, in order: the verb, and of ssh what the hosts were told."""
    folder = tmp_path / "bin"
    stand_in(folder, "gcloud", GCLOUD.replace("FOLDER", str(folder)))
    stand_in(folder, "git", "")
    (folder / "states").write_text("\n".join(states) + "\n")
    (folder / "trainings").write_text("\n".join(trainings) + "\n")
    env = environment(folder, TMPDIR=str(tmp_path))
    done = launch("tpu.sh", "watch", *TPU, "--interval", "0", "--restarts", "1", "--", *TRAINING, env=env, code=code)
    told = [words[-1] if words[3] == "ssh" else words[3] for words in calls(folder, "gcloud")]
    told = [each.removeprefix("--command=").removeprefix("bash driqa_jax/launch/tpu_worker.sh ") for each in told]
    told = [each.split()[0] for each in told]
    return [each for each in told if each not in ("describe", "state", "mkdir", "tar")], done.stderr


def test_tpu_watch_asks_again_after_a_preemption_and_ends_with_the_training(tmp_path):
    states = ["ACTIVE", "SUSPENDED", "SUSPENDING", "NOT_FOUND", "WAITING_FOR_RESOURCES", *["ACTIVE"] * 4]
    told, said = watched(tmp_path, states, ["running,0", "139,0", "143", "0,0"])
    assert told == ["delete", "create", "scp", "install", "start", "start", "start"]
    assert "pod was taken away" in said and "failed with code 139, 1 time(s)" in said and "is through" in said


@pytest.mark.parametrize(
    "trainings, last", [(["2"], "refused its arguments"), (["1", "running,1", "1"], "code 1, 2 time(s)")]
)
def test_tpu_watch_gives_up_on_what_cannot_work(tmp_path, trainings, last):
    told, said = watched(tmp_path, ["ACTIVE"] * 3, trainings, code=1)
    assert last in said and told == ["start"] * (len(trainings) > 1)


def test_a_tpu_host_trains_detached_and_says_how_it_ended(tmp_path):
    folder = tmp_path / "driqa_env" / "bin"
    folder.parent.mkdir()
    stand_in(folder, "driqa", TRAINS)
    env = {**os.environ, "HOME": str(tmp_path)}

    def host(*words, code=0):
        return launch("tpu_worker.sh", *words, env=env, code=code).stdout.strip()

    log = tmp_path / "driqa_run" / "log"
    assert host("state") == "none"
    host("start", *TRAINING)
    until(lambda: log.exists() and "trains" in log.read_text())
    assert host("state") == "running" and calls(folder, "driqa") == [["train", *TRAINING]]
    host("start", *TRAINING, code=1)
    host("stop")
    until(lambda: host("state") != "running")
    assert host("state") == "143" and "saved" in log.read_text()


# ---- Slurm


def test_slurm_dry_run_prints_the_submission_and_what_each_job_runs():
    mkdir, submit, comment, step = dry("slurm.sh", "--nodes", "2", "--gpus", "4", "--time=1:00:00", "--", *TRAINING)
    assert mkdir == ["mkdir", "-p", "/data/it's here"]
    train = ["driqa", "train", *TRAINING, "--distributed", "auto"]
    assert submit == [
        *("sbatch", "--job-name=driqa", "--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--requeue"),
        *("--open-mode=append", "--signal=B:USR1@300", "--output=/data/it's here/slurm-%j.log", "--time=1:00:00"),
        *(f"{LAUNCH}/slurm_job.sh", *train),
    ]
    # One task a GPU, and each sees all: nothing here may bind a GPU to a task.
    assert step == ["srun", "--gpu-bind=none", "--kill-on-bad-exit=0", *train] and comment.startswith("#")
    assert not any("gpus-per-task" in word for word in submit)


def test_slurm_submits_a_sweep_as_an_array(tmp_path):
    sweep = tmp_path / "the sweep"
    sweep.write_text("--config.seed=1\n\n# two\n--config.seed=2\n")
    words = dry("slurm.sh", "--sweep", str(sweep), "--at-most", "1", "--", *TRAINING)
    assert "--array=1-2%1" in words[1] and "--output=/data/it's here/slurm-%A_%a.log" in words[1]
    assert words[3][3:] == [f"{LAUNCH}/sweep.sh", "--array-task", str(sweep), "--", *TRAINING, "--distributed", "auto"]


@pytest.fixture
def job(request, tmp_path):
    """A job whose step is `step`, with stand-ins for Slurm's commands."""

    def call(step):
        stand_in(tmp_path, "srun", step)
        stand_in(tmp_path, "scontrol", "")
        env = environment(tmp_path, SLURM_JOB_ID="77", SLURM_CPUS_PER_TASK="4")
        return begin(request, "slurm_job.sh", "driqa", "train", env=env)

    return call


def test_a_job_at_its_time_limit_saves_and_is_queued_again(job, tmp_path):
    process = job(TRAINS.replace("echo trains", f"touch '{tmp_path}/began'"))
    until((tmp_path / "began").exists)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 143
    assert calls(tmp_path, "scontrol") == [["requeue", "77"]]
    assert calls(tmp_path, "srun") == [["--gpu-bind=none", "--kill-on-bad-exit=0", "driqa", "train"]]


def test_a_preempted_job_lets_its_tasks_save_and_stays_until_slurm_ends_it(job, tmp_path):
    """A job that ended by itself would not be queued again."""
    stand_in(tmp_path, "sleep", "")
    process = job(f"touch '{tmp_path}/began'\n/bin/sleep 0.5\nexit 143")
    until((tmp_path / "began").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert calls(tmp_path, "sleep") == [["600"]] and calls(tmp_path, "scontrol") == []


@pytest.mark.parametrize("code", [0, 2])
def test_a_job_ends_as_its_training_ends(job, tmp_path, code):
    assert job(f'[ "$SRUN_CPUS_PER_TASK" = 4 ] || exit 9\nexit {code}').wait(60) == code
    assert calls(tmp_path, "scontrol") == []


# ---- several GPUs on one host


def test_one_host_dry_run_prints_a_process_a_gpu():
    assert dry("one_host.sh", "--gpus", "0,3", "--port", "9000", "--", *TRAINING) == [
        ["env", f"CUDA_VISIBLE_DEVICES={gpu}", "driqa", "train", *TRAINING, "--distributed", f"localhost:9000,2,{i}"]
        for i, gpu in enumerate((0, 3))
    ]
    assert dry("one_host.sh", "--cpu", "1", "--", *TRAINING)[0][:3] == ["env", "JAX_PLATFORMS=cpu", "driqa"]


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_one_host_passes_a_signal_on_and_waits_for_all(request, tmp_path, number, code):
    stand_in(tmp_path, "driqa", TRAINS)
    words = ["--cpu", "2", "--", *TRAINING]
    process = begin(request, "one_host.sh", *words, env=environment(tmp_path), stdout=subprocess.PIPE, text=True)
    assert [process.stdout.readline() for _ in range(2)] == ["trains\n"] * 2
    process.send_signal(number)
    assert process.communicate(timeout=60)[0] == "saved\nsaved\n" and process.returncode == code


def test_one_host_ends_the_others_when_one_fails(tmp_path):
    stand_in(tmp_path, "driqa", f'case "$*" in *2,1) exit 7 ;; esac\n{TRAINS}')
    done = launch("one_host.sh", "--cpu", "2", "--", *TRAINING, env=environment(tmp_path), code=7)
    assert "ended with code 7; ending the others" in done.stderr and "saved" in done.stdout


# ---- Kubernetes


def test_the_kubernetes_manifest_is_what_its_command_prints():
    text = (LAUNCH / "kubernetes.yaml").read_text()
    command = text.split("launch/kubernetes.sh", 1)[1].split("\napiVersion", 1)[0].replace("\\\n#", "")
    printed = launch("kubernetes.sh", *shlex.split(command)).stdout
    assert list(yaml.safe_load_all(printed)) == list(yaml.safe_load_all(text)) and printed in text


def test_kubernetes_pods_find_each_other_and_train_what_was_asked():
    words = ["--image", "i:1", "--claim", "c", "--name", "run", "--nodes", "3", "--gpus", "0", "--dry-run", "--"]
    odd = ['--config.data.path=/data/a "b" \\ $(HOME) it\'s']
    service, job = yaml.safe_load_all(launch("kubernetes.sh", *words, *TRAINING, *odd).stdout)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (service["kind"], service["spec"]["clusterIP"], job["kind"]) == ("Service", "None", "Job")
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    assert pod["subdomain"] == service["metadata"]["name"]
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 3
    assert pod["restartPolicy"] == "Never"  # which a failure policy wants
    # Kubernetes replaces $(NAME), and makes $$( to $(.
    odd[0] = odd[0].replace("$(", "$$(")
    assert container["args"] == ["train", *TRAINING, *odd, "--distributed", "run-0.run:8476,3,$(JOB_COMPLETION_INDEX)"]
    assert "resources" not in container
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}


def test_the_image_has_what_it_copies(root):
    lines = (root / "launch" / "Dockerfile").read_text().splitlines()
    copied = {word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]}
    ignore = (root / ".dockerignore").read_text().splitlines()
    assert "*" in ignore and copied == {line[1:] for line in ignore if line.startswith("!")}
    assert all((root / name).exists() for name in copied)
