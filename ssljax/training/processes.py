"""Several processes as one run: joining, agreeing, and ending together.

A launcher starts the same command once per machine or per GPU; JAX's distributed runtime connects
the processes, and from there on every device of every process takes part in every step. What
processes have to agree on is decided here: who failed, who was told to stop, whose folder it is.
"""

from __future__ import annotations

import collections
import contextlib
import glob
import importlib.util
import os
import pathlib
import secrets
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssljax.errors import Ending, InputError, Interrupted, TrainingFailed

_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_PATIENCE = 300  # seconds for the others to come, at the start and at the end
_HEARTBEAT = 60  # seconds after which a process that is not heard of counts as dead
_VISIBLE = 30  # seconds that a network file system may take to show what another machine wrote
_LONGEST = 4096  # bytes of a message that is passed on


def join() -> None:
    """Joins the other processes, if a launcher started several; to be called before all of jax.

    They are told by `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`, or found
    by JAX itself in a Slurm step of several tasks or on a TPU slice.

    Raises:
      InputError: the variables are not complete, or the others did not come.
    """
    arguments = _told() or ({} if _found() else None)
    if arguments is None:
        return
    told = "process {process_id} of {num_processes} waits for the others at {coordinator_address}"
    message = told.format(**arguments) if arguments else "waiting for the other processes"
    print(f"{message}, {_PATIENCE} seconds at the most", file=sys.stderr, flush=True)
    # JAX's own handler would swallow SIGTERM for good; `SharedSignal` is ours, for Ctrl-C too.
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
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"the processes of the run did not all come: {reason}") from error


def refuse(what: str) -> None:
    """Ends a command that is for one process, where a launcher started several as one run.

    Tasks of a Slurm step may well be processes of their own.

    Raises:
      InputError: it did.
    """
    if _told() or ("SLURM_STEP_NUM_TASKS" not in os.environ and _found()):
        raise InputError(
            f"{what} is not run by several processes as one; start processes of their own, each "
            "with devices of its own, and they share the work"
        )


def _told() -> dict[str, Any] | None:
    given = [name for name in _VARIABLES if os.environ.get(name)]
    if "JAX_NUM_PROCESSES" not in given and "JAX_PROCESS_ID" not in given:
        return None  # an address alone goes with what JAX finds
    if missing := [name for name in _VARIABLES if name not in given]:
        raise InputError(f"{', '.join(given)} needs {', '.join(missing)} beside it")
    address, *numbers = (os.environ[name] for name in _VARIABLES)
    if not all(number.isdigit() for number in numbers) or not int(numbers[1]) < int(numbers[0]):
        raise InputError(
            f"JAX_PROCESS_ID={numbers[1]} of JAX_NUM_PROCESSES={numbers[0]}: they are counted "
            "from 0 to one less than their number"
        )
    if not address.rpartition(":")[2].isdigit():
        raise InputError(f"JAX_COORDINATOR_ADDRESS={address} is no HOST:PORT")
    if int(numbers[0]) == 1:
        return None
    count, index = map(int, numbers)
    return {"coordinator_address": address, "num_processes": count, "process_id": index}


def _found() -> bool:
    """Whether this is a Slurm step of several tasks, or a machine of a TPU slice."""
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return True
    if os.environ.get("JAX_PLATFORMS", "tpu") != "tpu" or not importlib.util.find_spec("libtpu"):
        return False
    if "TPU_WORKER_HOSTNAMES" in os.environ:  # on GKE
        return "," in os.environ["TPU_WORKER_HOSTNAMES"]
    asks = "TPU_SKIP_MDS_QUERY" not in os.environ
    return asks and bool(glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"))


def leave() -> None:
    """Ends the connection once every process has come here; after an ending that all share."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


def lost(error: Exception) -> bool:
    """Whether an error of JAX says that another process cannot be reached any more."""
    return jax.process_count() > 1 and any(
        word in str(error) for word in ("Gloo", "NCCL", "Connection", "Barrier", "UNAVAILABLE")
    )


def is_first() -> bool:
    """Whether this process is the one that writes what is written once."""
    return jax.process_index() == 0


def say(text: str) -> None:
    """Prints a message to standard error, once."""
    if is_first():
        print(text, file=sys.stderr)


def first_says(value: int) -> int:
    """The first process's value, to all."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def gather(value: np.ndarray) -> np.ndarray:
    """What every process has, [processes, ...]; the shapes must be the same."""
    if jax.process_count() == 1:
        return value[None]
    return np.asarray(multihost_utils.process_allgather(value))


def gather_texts(text: str) -> list[str]:
    """What every process has to say, by process."""
    data = text.encode()[:_LONGEST].ljust(_LONGEST, b"\0")
    return [
        row.tobytes().rstrip(b"\0").decode(errors="ignore")
        for row in gather(np.frombuffer(data, np.uint8))
    ]


@contextlib.contextmanager
def together() -> Iterator[None]:
    """What fails in one process fails in all at the end of the block, and none waits for another.

    Inside, a process must not wait for others.

    Raises:
      InputError: as in the process that failed; so with TrainingFailed and Interrupted.
    """
    if jax.process_count() == 1:
        yield
        return
    own: Exception | None = None
    try:
        yield
    except Exception as error:
        own = error
    code = getattr(own, "exit_code", 1)
    faults = gather_texts("" if own is None else f"{code} {own or type(own).__name__}")
    if isinstance(own, Ending):
        own.shared = True
    if own is not None:
        raise own
    for index, fault in enumerate(faults):
        if fault:
            code, _, message = fault.partition(" ")
            ending = _ending(int(code), f"process {index}: {message}")
            ending.shared = True
            raise ending


def _ending(exit_code: int, message: str) -> Ending:
    if exit_code > 128:
        return Interrupted(exit_code - 128, message)
    return (InputError if exit_code == InputError.exit_code else TrainingFailed)(message)


def check_shared(folder: pathlib.Path) -> None:
    """Makes sure that all processes see the folder of the first; creates it.

    Raises:
      InputError: one of them does not.
    """
    if jax.process_count() == 1:
        return
    mark = folder / f".shared-{first_says(secrets.randbits(30))}"
    with together():
        if is_first():
            folder.mkdir(parents=True, exist_ok=True)
            mark.touch()
    with together():
        end = time.monotonic() + _VISIBLE
        while not mark.exists():
            if time.monotonic() > end:
                raise InputError(
                    f"--workdir: {folder} is not the folder of that name that the first process "
                    "sees; it must be on storage that all machines share"
                )
            time.sleep(0.1)
    if is_first():
        mark.unlink()


class SharedSignal:
    """Tells all processes of a signal that one of them got, all of them at the same call.

    Every process calls it after every step. Each call sends its signal over the devices, behind
    the step, and returns what came of an earlier one, so that no device waits.
    """

    def __init__(self, lag: int):
        """Answers are those of the call `lag` calls before."""
        mesh = Mesh(np.array(jax.devices()), ("all",), axis_types=(AxisType.Auto,))
        self._sharding = NamedSharding(mesh, P("all"))
        self._highest = jax.jit(lambda x: x.max(), out_shardings=NamedSharding(mesh, P()))
        self._sent: collections.deque[jax.Array] = collections.deque()
        self._lag = lag

    def __call__(self, number: int | None) -> int | None:
        """Takes this process's signal, or None; returns the one that all know of by now."""
        if jax.process_count() == 1:
            return number
        numbers = np.full(jax.local_device_count(), number or 0, np.int32)
        sent = jax.make_array_from_process_local_data(self._sharding, numbers)
        self._sent.append(self._highest(sent))
        if len(self._sent) <= self._lag:
            return None
        return int(self._sent.popleft()) or None
