"""The memory that a container or a job may use, from files as the system writes them."""

from __future__ import annotations

import pytest

from ssljax.files import memory

pytestmark = pytest.mark.quick
GIB = 2**30


@pytest.fixture
def groups(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_ROOT", tmp_path)
    monkeypatch.setattr(memory, "_OWN", tmp_path / "own")
    monkeypatch.setattr(memory, "_of_machine", lambda key: 100 * GIB)
    return tmp_path


def write(folder, names, limit, used, stat):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip((*names, "memory.stat"), (limit, used, stat), strict=True):
        (folder / name).write_text(f"{value}\n")


def test_files_that_the_system_keeps_are_available(groups):
    (groups / "own").write_text("0::/\n")
    stat = f"anon {GIB}\ninactive_file {40 * GIB}\nactive_file {20 * GIB}"
    write(groups, ("memory.max", "memory.current"), 64 * GIB, 63 * GIB, stat)
    assert memory.available_memory() == 61 * GIB
    assert memory.total_memory() == 64 * GIB


def test_the_least_limit_of_the_groups_around_counts(groups):
    (groups / "own").write_text("0::/slurm/job_1/step_0\n")
    names = ("memory.max", "memory.current")
    write(groups / "slurm/job_1", names, 8 * GIB, 3 * GIB, "anon 0")
    write(groups / "slurm/job_1/step_0", names, "max", GIB, "anon 0")
    assert (memory.available_memory(), memory.total_memory()) == (5 * GIB, 8 * GIB)


def test_groups_of_version_1(groups):
    (groups / "own").write_text("3:cpu,cpuacct:/a\n4:memory:/a\n")
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    stat = f"inactive_file 0\ntotal_inactive_file {GIB}\ntotal_active_file 0"
    write(groups / "memory/a", names, 8 * GIB, 3 * GIB, stat)
    assert (memory.available_memory(), memory.total_memory()) == (6 * GIB, 8 * GIB)


def test_without_groups_it_is_the_machines(groups):
    assert memory.available_memory() == memory.total_memory() == 100 * GIB


def test_this_machine_has_memory():
    assert 2**28 < memory.available_memory() <= memory.total_memory() < 2**50
