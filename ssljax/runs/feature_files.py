"""Files of features: written a batch at a time, so that memory does not grow with them."""

from __future__ import annotations

import abc
import contextlib
import os
import pathlib
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np

from ssljax.settings.errors import InputError

_ROWS = 4096  # of a group in a Parquet file, and of a write of names


class FeatureFile(abc.ABC):
    """A file that gets rows; all files that it writes are in a scratch folder until the end.

    Attributes:
      scratch: a new folder.
    """

    def __init__(self, scratch: pathlib.Path):
        self.scratch = scratch

    @abc.abstractmethod
    def add(self, features: np.ndarray, labels: np.ndarray, files: Sequence[str]) -> None:
        """Appends float32[n, D] features, int32[n] labels and n names of files."""

    @abc.abstractmethod
    def finish(self, target: pathlib.Path) -> None:
        """Moves what was written to its place."""


class _Rows:
    """An .npy file whose number of rows is known at the end."""

    def __init__(self, path: pathlib.Path, dtype: str, row: tuple[int, ...] = ()):
        self._file: IO[bytes] = open(path, "wb")  # noqa: SIM115, until close()
        self._dtype, self._row, self._count = np.dtype(dtype), row, 0
        self._header()

    def _header(self) -> None:
        # numpy leaves room for the number of rows to grow.
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (self._count, *self._row),
            },
        )

    def add(self, rows: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(rows, self._dtype).tobytes())
        self._count += len(rows)

    def close(self) -> None:
        self._file.seek(0)
        self._header()
        self._file.close()


class NumpyFile(FeatureFile):
    """`F.npy`, with `F.labels.npy` and `F.files.npy` beside it."""

    def __init__(self, scratch: pathlib.Path):
        super().__init__(scratch)
        self._features: _Rows | None = None
        self._labels = _Rows(scratch / "labels.npy", "<i4")
        self._files: list[str] = []

    def add(self, features: np.ndarray, labels: np.ndarray, files: Sequence[str]) -> None:
        """See `FeatureFile`."""
        if self._features is None:
            self._features = _Rows(self.scratch / "features.npy", "<f4", features.shape[1:])
        self._features.add(features)
        self._labels.add(labels)
        self._files += files

    def finish(self, target: pathlib.Path) -> None:
        """See `FeatureFile`."""
        self._close()
        for name in ("labels", "files"):
            os.replace(self.scratch / f"{name}.npy", target.with_suffix(f".{name}.npy"))
        os.replace(self.scratch / "features.npy", target)

    def _close(self) -> None:
        assert self._features is not None
        self._features.close()
        self._labels.close()
        longest = max(map(len, self._files))
        names = _Rows(self.scratch / "files.npy", f"<U{max(1, longest)}")
        for start in range(0, len(self._files), _ROWS):
            names.add(np.array(self._files[start : start + _ROWS]))
        names.close()


class ZippedNumpyFile(NumpyFile):
    """`F.npz` with the arrays `features`, `labels` and `files`."""

    def finish(self, target: pathlib.Path) -> None:
        """See `FeatureFile`."""
        self._close()
        with zipfile.ZipFile(self.scratch / "all.npz", "x") as archive:
            for name in ("features", "labels", "files"):
                archive.write(self.scratch / f"{name}.npy", f"{name}.npy")
        os.replace(self.scratch / "all.npz", target)


class ParquetFile(FeatureFile):
    """`F.parquet` with the columns `features`, `labels` and `files`."""

    def __init__(self, scratch: pathlib.Path):
        super().__init__(scratch)
        self._writer: Any = None
        self._waiting: list[Any] = []

    def add(self, features: np.ndarray, labels: np.ndarray, files: Sequence[str]) -> None:
        """See `FeatureFile`."""
        import pyarrow as pa

        flat = pa.array(features.reshape(-1), pa.float32())
        columns = {
            "features": pa.FixedSizeListArray.from_arrays(flat, features.shape[1]),
            "labels": pa.array(labels, pa.int32()),
            "files": pa.array([name.encode(errors="replace").decode() for name in files]),
        }
        self._waiting.append(pa.table(columns))
        if sum(map(len, self._waiting)) >= _ROWS:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._waiting:
            table = pa.concat_tables(self._waiting).combine_chunks()
            if self._writer is None:
                self._writer = pq.ParquetWriter(self.scratch / "all.parquet", table.schema)
            self._writer.write_table(table)
        self._waiting = []

    def finish(self, target: pathlib.Path) -> None:
        """See `FeatureFile`."""
        self._write()
        self._writer.close()
        os.replace(self.scratch / "all.parquet", target)


_KINDS: dict[str, type[FeatureFile]] = {
    ".npz": ZippedNumpyFile,
    ".npy": NumpyFile,
    ".parquet": ParquetFile,
}


def check(out: str | pathlib.Path) -> pathlib.Path:
    """The path of a new file of features.

    Raises:
      InputError: it ends in another way than known, exists, or its folder does not.
    """
    path = pathlib.Path(os.path.expanduser(out))
    if path.suffix not in _KINDS:
        raise InputError(f"--out: {out} must end in {', '.join(_KINDS)}")
    beside = [path.with_suffix(f".{name}.npy") for name in ("labels", "files")]
    for file in [path, *(beside if path.suffix == ".npy" else [])]:
        if file.exists() or file.is_symlink():
            raise InputError(f"--out: {file} exists already; name a new file")
    if not path.parent.is_dir():
        raise InputError(f"--out: there is no folder {path.parent}")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise InputError("--out: .parquet needs `pip install -e '.[parquet]'`") from error
    return path


@contextlib.contextmanager
def new_file(path: pathlib.Path) -> Iterator[FeatureFile]:
    """A file that is there at the end, if no error came; otherwise nothing stays.

    Args:
      path: from `check`.

    Raises:
      InputError: it cannot be written, or got no rows.
    """
    scratch = path.with_name(f"incomplete.{path.name}")
    try:
        shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
        scratch.mkdir()
        try:
            file = _KINDS[path.suffix](scratch)
            yield file
            file.finish(path)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise InputError(f"--out: cannot write {path}: {error.strerror or error}") from error
