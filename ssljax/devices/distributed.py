"""Connects the processes that a launcher started for one run, with JAX's distributed runtime.

A launcher starts the same command once per machine or per GPU. Every device of every process then
takes part in every step. `processes.py` has what the processes agree on.
"""

from __future__ import annotations

import glob
import importlib.util
import os
from typing import Any

import jax

from ssljax.settings.command_process import clean_up_at_signals
from ssljax.settings.errors import InputError, TrainingFailed, first_line
from ssljax.settings.messages import say

_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_PATIENCE = 300  # seconds to wait for the other processes
_HEARTBEAT = 60  # seconds without a sign of life after which a process counts as dead


def join() -> None:
    """Connects to the other processes if a launcher started several; call it before using jax.

    `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` describe them, or JAX finds
    them itself in a Slurm step of several tasks or on a TPU slice.

    Raises:
      InputError: the variables are incomplete or wrong.
      TrainingFailed: the other processes did not connect in time.
    """
    arguments = _told() or ({} if _found() else None)
    if arguments is None:
        return
    told = "process {process_id} of {num_processes} waits for the others at {coordinator_address}"
    message = told.format(**arguments) if arguments else "waiting for the other processes"
    say(f"{message}, {_PATIENCE} seconds at the most")
    # JAX's own handler would hide SIGTERM; `SharedSignal` handles it and Ctrl-C.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if jax.config.values["jax_num_cpu_devices"] < 0:
        jax.config.update("jax_num_cpu_devices", 1)
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=_PATIENCE,
            heartbeat_timeout_seconds=_HEARTBEAT,
            shutdown_timeout_seconds=_HEARTBEAT,
        )
    except (RuntimeError, ValueError) as error:
        raise TrainingFailed(
            f"not all processes of the run connected: {first_line(error)}"
        ) from error
    clean_up_at_signals()  # the others are told, and do not wait


def refuse(what: str) -> None:
    """Ends a command for a single process if a launcher started several as one run.

    The tasks of a Slurm step may be independent processes, so they are not refused. A TPU machine
    may be alone or one of a slice; the TPU itself, which this starts, knows.

    Raises:
      InputError: a launcher did.
    """
    several = "SLURM_STEP_NUM_TASKS" not in os.environ and _found()
    if several and "TPU_WORKER_HOSTNAMES" not in os.environ:
        several = jax.process_count() > 1
    if _told() or several:
        raise InputError(
            f"{what} cannot run as one job of several processes; start independent processes, each "
            "with its own devices, and they share the work"
        )


def _told() -> dict[str, Any] | None:
    given = [name for name in _VARIABLES if os.environ.get(name)]
    if "JAX_NUM_PROCESSES" not in given and "JAX_PROCESS_ID" not in given:
        return None  # with an address alone, JAX finds the rest
    if missing := [name for name in _VARIABLES if name not in given]:
        raise InputError(f"{', '.join(given)} needs {', '.join(missing)}: set all three or none")
    address, *numbers = (os.environ[name] for name in _VARIABLES)
    if not all(number.isdigit() for number in numbers) or not int(numbers[1]) < int(numbers[0]):
        raise InputError(
            f"JAX_PROCESS_ID={numbers[1]} of JAX_NUM_PROCESSES={numbers[0]}: the id must be from 0 "
            "to one less than the number"
        )
    if not address.rpartition(":")[2].isdigit():
        raise InputError(f"JAX_COORDINATOR_ADDRESS={address} must be HOST:PORT")
    if int(numbers[0]) == 1:
        return None
    count, index = map(int, numbers)
    return {"coordinator_address": address, "num_processes": count, "process_id": index}


def _found() -> bool:
    """Whether this is a task of a Slurm step of several tasks, or a machine of a TPU slice."""
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return True
    if os.environ.get("JAX_PLATFORMS", "tpu") != "tpu" or not importlib.util.find_spec("libtpu"):
        return False
    if "TPU_WORKER_HOSTNAMES" in os.environ:  # on GKE
        return "," in os.environ["TPU_WORKER_HOSTNAMES"]
    asks = "TPU_SKIP_MDS_QUERY" not in os.environ
    return asks and bool(glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"))


def leave() -> None:
    """Disconnects when every process has called this; for an ending that all processes share."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()
