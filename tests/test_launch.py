"""The launchers are well formed, and hand the training command on as it was given."""

from __future__ import annotations

import copy
import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.quick

LAUNCH = REPOSITORY / "launch"
SCHEMAS = pathlib.Path(__file__).parent / "schemas"
SCRIPTS = {path.name: path.read_text() for path in sorted(LAUNCH.glob("*.sh"))}
JOBSETS = {path.name: yaml.safe_load(path.read_text()) for path in LAUNCH.glob("jobset_*.yaml")}
SKYPILOT = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
SCRIPTS |= {f"skypilot.yaml {key}": f"#!/bin/bash\n{SKYPILOT[key]}" for key in ("setup", "run")}
FLAGS = ["--config=configs/jigsaw.py:3x3", "--workdir=a folder", "--config.a.b='\"$HOME\\"]

# Stands in for the training command: writes down its flags and what it was told of the others.
STAND_IN = f"""#!{sys.executable}
import json, os, pathlib, signal, sys, time
if sys.argv[1] == "-c":
    os.execv("{sys.executable}", ["python", *sys.argv[1:]])
def save(code):
    time.sleep(0.2)
    record.write_text(json.dumps(f"saved {{code}}"))
    os._exit(code)
signal.signal(signal.SIGTERM, lambda *_: save(143))
names = ("COORDINATOR_ADDRESS", "NUM_PROCESSES", "PROCESS_ID", "LOCAL_DEVICE_IDS")
told = {{name: os.environ["JAX_" + name] for name in names if "JAX_" + name in os.environ}}
index = told.get("PROCESS_ID", "0")
record = pathlib.Path(os.environ["RECORDS"], index + ".json")
record.write_text(json.dumps([sys.argv[1:], told]))
try:
    time.sleep(float(os.environ.get("SECONDS_" + index, 0)))
except KeyboardInterrupt:
    save(130)
sys.exit(int(os.environ.get("CODE_" + index, 0)))
"""


def complaints(script: str, folder: pathlib.Path) -> str:
    """What bash, and shellcheck where it is installed, say of a script."""
    path = folder / "script.sh"
    path.write_text(script)
    commands = [["bash", "-n", path]]
    if shellcheck():
        commands.append([shellcheck(), path])
    done = [subprocess.run(command, capture_output=True, text=True) for command in commands]
    return "".join(each.stdout + each.stderr for each in done)


def shellcheck() -> str | None:
    beside_python = os.path.dirname(sys.executable)
    return shutil.which("shellcheck", path=f"{beside_python}:{os.environ['PATH']}")


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_parse_and_are_sound(name, tmp_path):
    assert complaints(SCRIPTS[name], tmp_path) == ""


def test_a_broken_script_is_caught(tmp_path):
    assert "syntax error" in complaints(SCRIPTS["local.sh"].replace("\ndone\n", "\n"), tmp_path)
    if not shellcheck():
        pytest.skip("no shellcheck")
    assert "SC2086" in complaints(SCRIPTS["slurm.sh"].replace('"$SLURM_JOB_ID"', "$SLURM_JOB_ID"),
                                  tmp_path)  # fmt: skip


def validate_jobset(jobset: dict) -> None:
    """Raises ValidationError where JobSet or Kubernetes would refuse it."""
    jsonschema.validate(jobset, json.loads((SCHEMAS / "jobset.json").read_text()))
    for job in jobset["spec"]["replicatedJobs"]:
        template = {"apiVersion": "batch/v1", "kind": "Job", **job["template"]}
        kubernetes_validate.validate(template, "1.37", strict=True)


def validate_skypilot(task: dict) -> None:
    """Raises ValidationError where SkyPilot would refuse it."""
    jsonschema.validate(task, json.loads((SCHEMAS / "skypilot.json").read_text()))


def changed(document: dict, path: str, value: object) -> dict:
    """A copy of a document with one value changed, or one key added."""
    document = copy.deepcopy(document)
    *groups, key = (int(part) if part.isdigit() else part for part in path.split("/"))
    group = document
    for part in groups:
        group = group[part]
    group[key] = value
    return document


@pytest.mark.parametrize("name", JOBSETS)
def test_jobsets_are_valid_and_their_numbers_agree(name):
    jobset = JOBSETS[name]
    validate_jobset(jobset)
    (job,) = jobset["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["parallelism"] == spec["completions"]
    assert spec["completionMode"] == "Indexed"
    # Any pod that fails must fail the job, or it alone would be started again.
    assert (spec["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
    names = {variable["name"]: variable.get("value") for variable in container.get("env", [])}
    if "google.com/tpu" in container["resources"]["limits"]:
        topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
        chips = math.prod(map(int, topology.split("x")))
        assert chips == spec["parallelism"] * container["resources"]["limits"]["google.com/tpu"]
        assert not names  # jax reads the slice
    else:
        assert names["JAX_NUM_PROCESSES"] == str(spec["parallelism"])
        host = f"{jobset['metadata']['name']}-{job['name']}-0-0.{jobset['metadata']['name']}"
        assert names["JAX_COORDINATOR_ADDRESS"].startswith(f"{host}:")


JOB = "spec/replicatedJobs/0/template/spec"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("apiVersion", "jobset.x-k8s.io/v1"),
        ("spec/failurePolicy/maxRestart", 3),
        ("spec/failurePolicy/restartStrategy", "Recreated"),
        ("spec/failurePolicy/rules/0/onJobFailureReasons", ["PodFailure"]),
        ("spec/replicatedJobs/0/parallelism", 2),
        (f"{JOB}/parallelism", "two"),
        (f"{JOB}/podFailurePolicy/rules/0/onExitCodes/values", ["2"]),
        (f"{JOB}/template/spec/containers/0/arguments", []),
        (f"{JOB}/template/spec/volumes/0/persistentVolumeClaim/claim", "ssljax"),
    ],
)
@pytest.mark.parametrize("name", JOBSETS)
def test_a_broken_jobset_is_caught(name, path, value):
    with pytest.raises(jsonschema.ValidationError):
        validate_jobset(changed(JOBSETS[name], path, value))


def test_the_skypilot_task_is_valid():
    validate_skypilot(SKYPILOT)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("nodes", 2),
        ("num_nodes", "two"),
        ("resources/accelerator", "H100:8"),
        ("resources/job_recovery/recover_on_exit_codes", [256]),
        ("envs/A-B", "x"),
    ],
)
def test_a_broken_skypilot_task_is_caught(path, value):
    with pytest.raises(jsonschema.ValidationError):
        validate_skypilot(changed(SKYPILOT, path, value))


def test_skypilot_itself_takes_the_task():
    sky = pytest.importorskip("sky")
    envs = [("NFS", "10.0.0.2:/share"), ("FLAGS", "--workdir=/shared/run")]
    task = sky.Task.from_yaml_config(SKYPILOT, env_overrides=envs)
    assert (task.num_nodes, task.name) == (2, "ssljax")


@pytest.fixture
def start(tmp_path):
    """Starts a launcher with the stand-in for the training command."""
    stand_in = tmp_path / "home" / "ssljax" / ".venv" / "bin" / "python"
    stand_in.parent.mkdir(parents=True)
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    (tmp_path / "records").mkdir()

    def start(name: str, *flags: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [LAUNCH / name, *flags],
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            # A shell's background jobs ignore Ctrl-C, and so would what they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            env={**os.environ, "PYTHON": str(stand_in), "RECORDS": str(tmp_path / "records"),
                 "HOME": str(tmp_path / "home"), **environment},
        )  # fmt: skip

    return start


def records(folder: pathlib.Path) -> list:
    return [json.loads(path.read_text()) for path in sorted((folder / "records").iterdir())]


def wait_for_records(folder: pathlib.Path, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(list((folder / "records").iterdir())) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.2)


def test_local_hands_the_flags_on(start, tmp_path):
    assert start("local.sh", *FLAGS).wait(30) == 0
    assert records(tmp_path) == [[["-m", "ssljax.train", *FLAGS], {}]]


def test_local_tells_every_process_its_place(start, tmp_path):
    assert start("local.sh", *FLAGS, PROCESSES="3", CODE_1="1", CODE_2="2").wait(30) == 2
    (_, first), *_ = rows = records(tmp_path)
    for index, (arguments, told) in enumerate(rows):
        assert arguments == ["-m", "ssljax.train", *FLAGS]
        assert told == {
            "COORDINATOR_ADDRESS": first["COORDINATOR_ADDRESS"],
            "NUM_PROCESSES": "3",
            "PROCESS_ID": str(index),
            "LOCAL_DEVICE_IDS": str(index),
        }
    assert start("local.sh", PROCESSES="two").wait(30) == 2


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_local_passes_signals_on_and_waits(start, tmp_path, processes, number, code):
    seconds = {"SECONDS_0": "60", "SECONDS_1": "60"}
    launcher = start("local.sh", PROCESSES=str(processes), **seconds)
    wait_for_records(tmp_path, processes)
    launcher.send_signal(number)
    assert launcher.wait(30) == code
    assert records(tmp_path) == [f"saved {code}"] * processes


def test_local_waits_without_work_for_a_process_that_is_stopped(start, tmp_path):
    launcher = start("local.sh", PROCESSES="2", SECONDS_0="60", SECONDS_1="60")
    wait_for_records(tmp_path, 2)
    children = pathlib.Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    stopped = [int(child) for child in children.read_text().split()]
    for child in stopped:
        os.kill(child, signal.SIGSTOP)
    time.sleep(1)
    used = sum(map(int, pathlib.Path(f"/proc/{launcher.pid}/stat").read_text().split()[13:17]))
    assert used < 0.3 * os.sysconf("SC_CLK_TCK")
    for child in stopped:
        os.kill(child, signal.SIGCONT)
    launcher.send_signal(signal.SIGHUP)
    assert launcher.wait(30) == 129


# Stands in for gcloud: runs the command as the shell at the other end of ssh does, for two hosts.
GCLOUD = """#!/bin/bash
for argument; do
  case $argument in
    --command=*) command=${argument#--command=} ;;
    --output-directory=*) logs=${argument#--output-directory=} ;;
  esac
done
cd "$HOME" || exit
for host in 0 1; do
  [[ -n ${logs-} ]] && exec >"$OLDPWD/$logs/$host.log"
  JAX_PROCESS_ID=$host bash -c "$command" && echo "host $host" || exit
done
"""


@pytest.mark.seconds
def test_tpu_vm_hands_the_flags_to_every_host_and_gathers_the_logs(start, tmp_path):
    (tmp_path / "gcloud").write_text(GCLOUD)
    (tmp_path / "gcloud").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    launcher = start("tpu_vm.sh", *FLAGS, TPU="slice", ZONE="zone", PATH=path)
    assert launcher.communicate(timeout=30)[0] == "host 0\n"
    assert launcher.returncode == 0
    assert [arguments for arguments, _ in records(tmp_path)] == [["-m", "ssljax.train", *FLAGS]] * 2
    logs = sorted((tmp_path / "logs").glob("slice-*/*.log"))
    assert [log.read_text() for log in logs] == ["host 0\n", "host 1\n"]
    assert start("tpu_vm.sh", TPU="slice", ZONE="zone", PATH=path, CODE_0="3").wait(30) == 3
    assert start("tpu_vm.sh", TPU="slice").wait(30) != 0
