"""Fixtures: real data, tiny configs, and runs trained once for all tests."""

from __future__ import annotations

import gc
import os
import pathlib
import tempfile

from tests.fast_compilation import FLAGS

# Four devices in one process; commands that tests start as processes of their own see one.
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=4 {FLAGS}"

# Rounding depends on the number of XLA's threads, which usually is that of the cores. On one core,
# a process with two devices has two threads, and two processes with a device each have one each.
os.environ["NPROC"] = "2"

# Many tests compile the same tiny networks, also in processes of their own, such as pytest-xdist's.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # tests run beside each other; the arrays are small

import hypothesis
import pytest
from ml_collections import ConfigDict

from ssljax.settings import config_files
from ssljax.training.loop import train

# The same examples every time, and no deadline: the first call of a function compiles it.
hypothesis.settings.register_profile("ssljax", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("ssljax")

# Tracing makes many objects that live long; looking through them for garbage takes a tenth of it.
gc.freeze()
gc.set_threshold(50_000, 20, 50)

REPOSITORY = pathlib.Path(__file__).parent.parent
SHARED = REPOSITORY.parent / "shared"


# Files whose tests take the longest. They come first, so that no process is left alone with them.
LONG = (
    "test_first_minutes.py", "test_paths.py", "test_processes.py", "test_kills.py",
    "test_command_line.py", "test_methods.py", "test_endings.py", "test_failed_runs.py",
    "test_study.py", "test_resume.py", "test_damaged_files.py", "test_launch.py", "test_tour.py",
)  # fmt: skip


def pytest_collection_modifyitems(config, items):
    if config.option.markexpr == "quick":
        items[:] = [item for item in items if not item.get_closest_marker("seconds")]
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG)))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> str:
    """A TFDS directory in which the embedded data set is prepared on first use."""
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="session")
def make_config(data_dir):
    """A factory of tiny configs, by method."""

    def make(method: str) -> ConfigDict:
        config = config_files.load(f"{REPOSITORY}/tests/tiny.py:{method}")
        config.data.data_dir = data_dir
        return config.lock()  # as flags do

    return make


@pytest.fixture(scope="session")
def pretext_run(make_config, tmp_path_factory) -> pathlib.Path:
    """A finished jigsaw run."""
    folder = tmp_path_factory.mktemp("runs") / "pretext"
    train(make_config("jigsaw"), folder)
    return folder


@pytest.fixture(scope="session")
def classification_run(make_config, pretext_run, tmp_path_factory) -> pathlib.Path:
    """A finished classification run that started from the jigsaw run."""
    folder = tmp_path_factory.mktemp("runs") / "classification"
    config = make_config("classification")
    config.init_from = str(pretext_run)
    train(config, folder)
    return folder


@pytest.fixture(scope="session")
def shared_tfds() -> str:
    """The data directory next to the checkout, if there is one."""
    folder = SHARED / "datasets" / "tfds"
    if not folder.is_dir():
        pytest.skip("no data next to the checkout")
    return str(folder)
