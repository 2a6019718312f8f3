"""A Slurm cluster of one node, which is this machine, started for a test and stopped after it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "sinfo")
PATH = f"{os.environ['PATH']}:/usr/sbin"

# No cgroups, no accounting, nothing of the machine's own configuration. A job of `urgent` takes the
# node from one of `patient`, which has so many seconds to end by itself.
CONFIG = """
ClusterName=test
SlurmctldHost=localhost
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=60
NodeName=localhost CPUs=2 State=UNKNOWN
PartitionName=patient Nodes=localhost Default=YES PriorityTier=1 GraceTime={grace}
PartitionName=urgent Nodes=localhost PriorityTier=2 PreemptMode=OFF
"""


def installed() -> bool:
    """Whether Slurm's and MUNGE's programs are there."""
    return all(shutil.which(program, path=PATH) for program in PROGRAMS)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def _stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


@contextlib.contextmanager
def cluster(grace: int) -> Iterator[dict[str, str]]:
    """Yields the environment variables with which Slurm's commands reach the cluster.

    Args:
      grace: seconds that a job has from SIGTERM until Slurm ends it.

    Raises:
      TimeoutError: the node did not come up; what the daemons said is in the message.
    """
    folder = pathlib.Path(tempfile.mkdtemp(prefix="slurm-"))  # a socket's path must be short
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o700)
    (folder / "munge" / "key").write_bytes(os.urandom(128))
    (folder / "munge" / "key").chmod(0o600)
    (folder / "slurm.conf").write_text(
        CONFIG.format(
            folder=folder,
            user=pwd.getpwuid(os.geteuid()).pw_name,
            controller_port=_free_port(),
            node_port=_free_port(),
            grace=grace,
        )
    )
    variables = {"PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf")}
    environment = {**os.environ, **variables}
    munge = {name: f"{folder}/munge/{name}" for name in ("key", "socket", "pid", "log", "seed")}
    daemons = [
        [
            "munged", "--foreground", "--force", f"--key-file={munge['key']}",
            f"--socket={munge['socket']}", f"--pid-file={munge['pid']}",
            f"--log-file={munge['log']}", f"--seed-file={munge['seed']}",
        ],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", "localhost"],
    ]  # fmt: skip

    def slurm(*command: str) -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done.stdout

    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for command in daemons:
            with (folder / f"{command[0]}.log").open("w") as log:
                process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            stack.callback(_stop, process)
            if command[0] == "munged":
                _wait_until(lambda: pathlib.Path(munge["socket"]).exists(), folder)
        _wait_until(lambda: "idle" in slurm("sinfo", "--noheader", "--format=%T"), folder)
        yield variables
        slurm("scancel", f"--user={os.geteuid()}")
        _wait_until(lambda: not slurm("squeue", "--noheader"), folder)


def _wait_until(condition: Callable[[], bool], folder: pathlib.Path) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("\n".join(path.read_text() for path in folder.glob("*.log")))
        time.sleep(0.2)
