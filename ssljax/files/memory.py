"""The memory of the machine, or of the container or the job."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

_ROOT = pathlib.Path("/sys/fs/cgroup")
_OWN = pathlib.Path("/proc/self/cgroup")


def available_memory() -> int:
    """Bytes that can be used before the machine swaps or a limit of control groups is reached.

    What the system keeps of files can be freed, so it counts as available.
    """
    available = _of_machine("MemAvailable")
    for limit, used in _groups():
        available = min(available, limit - used)
    return available


def total_memory() -> int:
    """Bytes that the machine has, or that the container or the job may use."""
    return min(_of_machine("MemTotal"), *(limit for limit, _ in _groups()), 2**62)


def _groups() -> Iterator[tuple[int, int]]:
    """The limit of each control group that this process is in, and what is used of it."""
    try:
        lines = _OWN.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            root, names = _ROOT, ("memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
            root = _ROOT / "memory"
        else:
            continue
        own = root / path.strip("/")
        # In a container, the path may be that of the host, which is not there.
        for folder in (own, *own.parents):
            if folder != root and root not in folder.parents:
                break
            try:
                limit, used = (int((folder / name).read_text()) for name in names[:2])
                yield limit, used - _of_files(folder, names[2])
            except (OSError, ValueError):  # not there, or without a limit
                continue


def _of_files(folder: pathlib.Path, prefix: str) -> int:
    """Bytes of a group that hold parts of files."""
    lines = (folder / "memory.stat").read_text().splitlines()
    values = dict(line.split() for line in lines)
    return sum(int(values.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))


def _of_machine(key: str) -> int:
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return int(values[key].split()[0]) * 1024
