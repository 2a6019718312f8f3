"""TensorBoard's events, written on the calling thread.

tensorboardX's `SummaryWriter` writes on a thread of its own. If that thread fails, for example
because the disk is full, the next call waits for it forever.
"""

from __future__ import annotations

import os
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any


class EventsFile:
    """A file of scalars in a folder."""

    def __init__(self, folder: pathlib.Path, continues_at: int):
        """TensorBoard hides events of other files from step `continues_at` on; 0 hides none.

        Raises:
          OSError: the file cannot be written.
        """
        files, self._proto, self._summary = _tensorboardx()
        self._file = files.EventsWriter(str(folder / "events"), f".{os.getpid()}")
        if continues_at:
            log = self._proto.SessionLog(status=self._proto.SessionLog.START)
            self._write(step=continues_at, session_log=log)

    def write(self, kind: str, step: int, row: Mapping[str, float]) -> None:
        """Adds a row as the scalars `kind/name`, and flushes the file.

        Raises:
          OSError: the file cannot be written.
        """
        values = [
            self._summary.Summary.Value(tag=f"{kind}/{name}", simple_value=value)
            for name, value in row.items()
        ]
        self._write(step=step, summary=self._summary.Summary(value=values))
        self._file.flush()

    def close(self) -> None:
        """Closes the file.

        Raises:
          OSError: it cannot be written.
        """
        self._file.close()

    def _write(self, **fields: Any) -> None:
        self._file.write_event(self._proto.Event(wall_time=time.time(), **fields))


def _tensorboardx() -> tuple[Any, Any, Any]:
    """The modules of tensorboardX for files, events and summaries.

    tensorboardX imports PyTorch if it is installed, which takes seconds and is not needed here.
    """
    hide = "torch" not in sys.modules
    if hide:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        from tensorboardX import event_file_writer
        from tensorboardX.proto import event_pb2, summary_pb2
    finally:
        if hide:
            del sys.modules["torch"]
    return event_file_writer, event_pb2, summary_pb2
