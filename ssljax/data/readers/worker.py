"""The training process's side of one reader process."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from ssljax.data.readers import reader
from ssljax.settings.errors import TrainingFailed
from ssljax.settings.messages import say

if TYPE_CHECKING:
    from ssljax.data.readers.batch_requests import Request

_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class Worker:
    """A reader process, and the socket to it.

    Attributes:
      up: whether it is ready.
      late: whether a request was given up, and no answer has come since.
      asked: the requests that it has not answered yet; it answers in this order.
    """

    def __init__(self) -> None:
        self.up = self.late = False
        self.asked: collections.deque[Request] = collections.deque()
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {
            **os.environ,
            # The empty entry stands for the working folder, which -P leaves out.
            "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path),
            "OPENBLAS_NUM_THREADS": "1",
            "JAX_PLATFORMS": "cpu",  # accelerators belong to the training process
        }
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # inherited by the child
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", reader.__name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            theirs.close()

    def fileno(self) -> int:
        """For `multiprocessing.connection.wait`."""
        return self.socket.fileno()

    def send(self, *message: Any, file: int | None = None) -> None:
        """Sends a message, and a file descriptor with it.

        Raises:
          TrainingFailed: the process has died.
        """
        try:
            socket.send_fds(self.socket, [pickle.dumps(message)], [] if file is None else [file])
        except ConnectionError as error:
            raise self._died() from error

    def receive(self) -> None:
        """Takes an answer.

        Raises:
          TrainingFailed: the process has died.
        """
        message = b""
        with contextlib.suppress(ConnectionError):
            message = self.socket.recv(reader.LONGEST)
        if not message:
            raise self._died()
        if self.up:
            self.asked.popleft().take(pickle.loads(message))
        if self.late:
            say(f"the reader process (pid {self.process.pid}) answers again")
        self.up, self.late = True, False

    def _died(self) -> TrainingFailed:
        code = self.process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        if code == -signal.SIGKILL:
            how += "; the system does this when memory runs out: try fewer data.workers"
        return TrainingFailed(f"a reader process (pid {self.process.pid}) {how}")
