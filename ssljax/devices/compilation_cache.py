"""Keeps compiled programs on the disk, so that the same command starts faster the next time."""

from __future__ import annotations

import hashlib
import os
import pathlib
import platform

import jax

_BYTES = 2 * 2**30  # of all programs; the least recently used ones are removed
_SECONDS = 0.5  # programs that compile faster are not kept


def keep_programs() -> None:
    """Lets jax keep compiled programs in the user's cache folder.

    Only commands call this. Nothing is kept if `JAX_COMPILATION_CACHE_DIR` is set, in which case
    jax keeps them there, or if the folder cannot be written. A program is compiled for the features
    of one CPU, so each kind of CPU has a folder of its own.
    """
    if given := jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(given))
        return
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = pathlib.Path(home, "ssljax", "programs", _cpu())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", _BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _SECONDS)


def _cpu() -> str:
    """A short name for this machine's CPU and its features."""
    lines = [platform.machine()]
    try:
        info = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        info = []
    for key in ("model name", "flags", "Features"):
        lines += [line.partition(":")[2] for line in info if line.startswith(key)][:1]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
