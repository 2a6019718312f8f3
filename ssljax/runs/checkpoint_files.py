"""The files of one checkpoint: a folder for each of its items, which orbax writes and reads."""

from __future__ import annotations

import errno
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from ssljax.files import storage

T = TypeVar("T")

# How tensorstore words errors of the system, which say nothing about the files. 2 is ENOENT.
_SYSTEM = re.compile(
    r"os_error_code='(?!2')(\d+)'|\b(UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|ABORTED|"
    r"PERMISSION_DENIED|UNAUTHENTICATED)\b"
)
_CODES = {"PERMISSION_DENIED": errno.EACCES, "DEADLINE_EXCEEDED": errno.ETIMEDOUT}


class Unreadable(Exception):
    """A file of a checkpoint is missing or damaged."""


class CheckedHandler(ocp.StandardCheckpointHandler):
    """Writes arrays, and reads them back before the checkpoint counts as complete."""

    def finalize(self, directory: Any) -> None:
        """Completes an item; raises if it cannot be read back."""
        super().finalize(directory)
        if jax.process_index() == 0:
            try:
                read_back(directory)
            except Unreadable as error:
                raise OSError(errno.EIO, "what was written cannot be read back") from error


@ocp.args.register_with_handler(CheckedHandler, for_save=True, for_restore=True)
class CheckedSave(ocp.args.StandardSave):
    """What orbax hands to `CheckedHandler`."""


def read_back(item: pathlib.Path) -> None:
    """Reads every array of an item into the host's memory, and forgets it.

    Raises:
      Unreadable: an array cannot be read.
      OSError: the system's fault.
    """
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone())

    def read() -> None:
        as_numpy = jax.tree.map(
            lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(item).tree
        )
        handler.restore(item, args=ocp.args.PyTreeRestore(restore_args=as_numpy))

    _of_item(item.name.partition(".")[0], read)


def read_json(checkpoint: pathlib.Path, item: str) -> Any:
    """An item that holds JSON.

    Raises:
      Unreadable: it is missing or no JSON.
      OSError: the system's fault.
    """
    handler = ocp.JsonCheckpointHandler(multiprocessing_options=_alone())
    with storage.literal(checkpoint) as folder:
        return _of_item(
            item, lambda: handler.restore(_epath(folder / item), args=ocp.args.JsonRestore())
        )


def read_shapes(checkpoint: pathlib.Path, item: str) -> dict[str, Any]:
    """The arrays of an item, nested as they were saved, with their shapes and dtypes.

    Raises:
      Unreadable: it is missing or damaged.
      OSError: the system's fault.
    """
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=_alone())
    with storage.literal(checkpoint) as folder:
        return _of_item(item, lambda: handler.metadata(_epath(folder / item)).tree)


def read_arrays(checkpoint: pathlib.Path, item: str, like: Any) -> Any:
    """The arrays of an item.

    Args:
      checkpoint: its folder.
      item: such as `params`.
      like: nested dicts with the same shapes, on the devices where the arrays are to be.

    Raises:
      Unreadable: it is missing or damaged.
      OSError: the system's fault.
    """
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=_alone())
    wanted = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like
    )
    with storage.literal(checkpoint) as folder:
        arguments = ocp.args.StandardRestore(wanted)
        return _of_item(item, lambda: handler.restore(_epath(folder / item), args=arguments))


def _alone() -> ocp.options.MultiprocessingOptions:
    """Every process reads independently of the others."""
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(own, {own}, f"process-{own}")


def _epath(path: pathlib.Path) -> Any:
    from etils import epath

    return epath.Path(path)


def _of_item(item: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except MemoryError:
        raise
    except Exception as error:  # orbax and tensorstore raise all kinds
        cause = error
        while cause.__cause__ is not None and isinstance(cause.__cause__, Exception):
            cause = cause.__cause__
        system = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
        if system or isinstance(cause, jax.errors.JaxRuntimeError):  # a device has no memory left
            raise cause from None
        if found := _SYSTEM.search(str(cause)):
            code = int(found[1]) if found[1] else _CODES.get(found[2], errno.EIO)
            raise OSError(code, os.strerror(code)) from error
        if isinstance(cause, FileNotFoundError) or "NOT_FOUND" in str(cause):
            raise Unreadable(f"a file of its {item} is missing") from error
        raise Unreadable(f"a file of its {item} is cut short or altered") from error
