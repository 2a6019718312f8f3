"""The memory of the machine, or of the container."""

from __future__ import annotations

import pathlib

_GROUP = pathlib.Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Bytes that can be used before the machine swaps or the container reaches its limit."""
    available = _of_machine("MemAvailable")
    try:
        limit = int((_GROUP / "memory.max").read_text())
        return min(available, limit - int((_GROUP / "memory.current").read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return available


def total_memory() -> int:
    """Bytes that the machine has, or that the container may use."""
    total = _of_machine("MemTotal")
    try:
        return min(total, int((_GROUP / "memory.max").read_text()))
    except (OSError, ValueError):
        return total


def _of_machine(key: str) -> int:
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return int(values[key].split()[0]) * 1024
