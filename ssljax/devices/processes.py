"""What the processes of one run agree on: failures, signals, and the run folder.

With a single process, these functions do nothing.
"""

from __future__ import annotations

import collections
import contextlib
import pathlib
import secrets
import socket
import time
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssljax.settings import messages
from ssljax.settings.errors import Ending, InputError, Interrupted, TrainingFailed

_VISIBLE = 30  # seconds until a network file system shows what another machine wrote
_LONGEST = 4096  # bytes of a message between processes


def lost(error: Exception) -> bool:
    """Whether an error of JAX means that another process cannot be reached any more."""
    return jax.process_count() > 1 and any(
        word in str(error) for word in ("Gloo", "NCCL", "Connection", "Barrier", "UNAVAILABLE")
    )


def is_first() -> bool:
    """Whether this is the process that writes files and messages of which there is one."""
    return jax.process_index() == 0


def say(*lines: str) -> None:
    """Prints a message to standard error, once."""
    if is_first():
        messages.say(*lines)


def first_says(value: int) -> int:
    """The first process's value, for all processes."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def gather(value: np.ndarray) -> np.ndarray:
    """What every process has, [processes, ...]; the shapes must be the same."""
    if jax.process_count() == 1:
        return value[None]
    return np.asarray(multihost_utils.process_allgather(value))


def gather_texts(text: str) -> list[str]:
    """The texts of all processes, in order."""
    data = text.encode(errors="replace")[:_LONGEST].ljust(_LONGEST, b"\0")
    return [
        row.tobytes().rstrip(b"\0").decode(errors="ignore")
        for row in gather(np.frombuffer(data, np.uint8))
    ]


def on_this_machine() -> int:
    """How many processes of the run are on this process's machine."""
    if jax.process_count() == 1:
        return 1
    return gather_texts(socket.gethostname()).count(socket.gethostname())


@contextlib.contextmanager
def together() -> Iterator[None]:
    """If the block fails in one process, it fails in all, so that none waits for another.

    Inside the block, a process must not wait for others.

    Raises:
      InputError: as in the process that failed; the same for TrainingFailed and Interrupted.
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
    """Creates a folder and checks that all processes see the same one.

    Raises:
      InputError: one of the processes sees another folder.
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
                    f"--workdir: {folder} is not the same folder as on the first process; it must "
                    "be on storage that all machines share"
                )
            time.sleep(0.1)
    if is_first():
        mark.unlink()


class SharedSignal:
    """Tells all processes of a signal that one of them received, at the same call.

    Every process calls it after every step. A call sends this process's signal over the devices,
    queued behind the step, and returns the result of an earlier call, so that no device waits.
    """

    def __init__(self, lag: int):
        """A call returns the result of the call `lag` calls before."""
        mesh = Mesh(np.array(jax.devices()), ("all",), axis_types=(AxisType.Auto,))
        self._sharding = NamedSharding(mesh, P("all"))
        self._highest = jax.jit(lambda x: x.max(), out_shardings=NamedSharding(mesh, P()))
        self._sent: collections.deque[jax.Array] = collections.deque()
        self._lag = lag

    def __call__(self, number: int | None) -> int | None:
        """Takes this process's signal or None; returns the signal that all processes know of."""
        if jax.process_count() == 1:
            return number
        numbers = np.full(jax.local_device_count(), number or 0, np.int32)
        sent = jax.make_array_from_process_local_data(self._sharding, numbers)
        self._sent.append(self._highest(sent))
        if len(self._sent) <= self._lag:
            return None
        return int(self._sent.popleft()) or None
