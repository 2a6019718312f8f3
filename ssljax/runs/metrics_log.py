"""The log of a run: metrics.jsonl, with a row per logging interval, validation and probing, and
the same for TensorBoard.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from ssljax.devices.processes import is_first
from ssljax.files import storage, untrusted
from ssljax.runs.events import EventsFile
from ssljax.settings.errors import InputError

_LARGEST = 2**32  # bytes; a row has about 300


class _Row(msgspec.Struct):
    """What every row has."""

    kind: str
    step: Annotated[int, msgspec.Meta(ge=0, le=2**53)]


def read_metrics(workdir: str | pathlib.Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl; a last row that is incomplete is left out.

    Raises:
      InputError: another row is damaged.
    """
    path = storage.path(workdir, "--workdir") / "metrics.jsonl"
    try:
        *lines, last = untrusted.read_bytes(path, _LARGEST).split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    rows = []
    for number, line in enumerate([*lines, last] if _is_row(last) else lines, start=1):
        if not _is_row(line):
            raise InputError(f"{path}, line {number} is damaged; repair or remove it")
        rows.append(json.loads(line))
    return rows


def _is_row(line: bytes) -> bool:
    try:
        untrusted.parse_json(line, _Row)
    except ValueError:
        return False
    return True


class MetricsLog:
    """Writes metrics.jsonl and TensorBoard's events; only the first process writes.

    Attributes:
      rows: all rows so far.
      unwritten: the last row, if it could not be written.
    """

    def __init__(self, workdir: pathlib.Path, step: int, unwritten: Sequence[dict] = ()):
        """Continues at a step: rows of later steps, from before an interruption, are dropped.

        Args:
          workdir: the run folder.
          step: of the checkpoint.
          unwritten: a row that the checkpoint holds because it could not be written.

        Raises:
          OSError: it cannot be written.
        """
        self._writes = is_first()
        self.rows = [row for row in read_metrics(workdir) if row["step"] <= step]
        self.rows += [row for row in unwritten if row not in self.rows]
        self.unwritten: list[dict[str, Any]] = []
        if not self._writes:
            return
        # Nothing can be appended to a file in a bucket, so it gets copies of files on a disk.
        self._bucket = workdir if storage.is_remote(workdir) else None
        self._folder = pathlib.Path(tempfile.mkdtemp()) if self._bucket else workdir
        path = self._folder / "metrics.jsonl"
        storage.write_text(path, "".join(json.dumps(row) + "\n" for row in self.rows))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115, until close()
        self._events = EventsFile(self._folder, continues_at=step + 1 if step else 0)
        self._copy("metrics.jsonl")

    def write(self, kind: str, step: int, row: Mapping[str, Any]) -> None:
        """Adds a row of kind `train`, `probe` or `validation`.

        Raises:
          OSError: it cannot be written.
        """
        entry = {"kind": kind, "step": step, **row}
        self.rows.append(entry)
        self.unwritten = [entry]
        if self._writes:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
            self._copy("metrics.jsonl")
            self._events.write(kind, step, row)
            if self._bucket is not None and kind == "validation":
                self._copy("events*")
        self.unwritten = []

    def validations(self) -> list[dict[str, Any]]:
        """The rows of validations so far."""
        return [row for row in self.rows if row["kind"] == "validation"]

    def _copy(self, pattern: str) -> None:
        if self._bucket is not None:
            for file in self._folder.glob(pattern):
                storage.write(self._bucket / file.name, file.read_bytes())

    def close(self) -> None:
        """Flushes and closes everything."""
        if self._writes:
            self._file.close()
            with contextlib.suppress(OSError):  # events are a copy of the metrics
                self._events.close()
                self._copy("events*")
            if self._bucket is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
