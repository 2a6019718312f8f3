"""One, two and four devices, under jit and pmap, and two processes, compute the same."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks.step_memory import temporary_bytes
from ssljax.errors import InputError
from ssljax.training.parallelism import Parallelism
from tests.conftest import REPOSITORY
from tests.plain_sgd import run_sgd


@pytest.fixture(scope="module")
def reference(make_config):
    config = make_config("classification")
    return config, run_sgd(config, "jit", 1)


@pytest.mark.parametrize(
    ("mode", "count"), [("jit", 2), ("jit", 4), ("pmap", 1), ("pmap", 2), ("pmap", 4)]
)
def test_losses_and_parameters_after_twenty_steps(reference, mode, count):
    config, expected = reference
    losses = expected[0]
    assert losses[-1] < losses[0] - 0.01  # something was learnt, so there is something to compare
    assert_same(run_sgd(config, mode, count), expected)


@pytest.mark.parametrize(("mode", "count", "steps"), [("jit", 1, 4), ("jit", 4, 2), ("pmap", 2, 4)])
def test_gradient_accumulation_changes_nothing(reference, mode, count, steps):
    """With the padded batch that ends an epoch, of which some micro-batches are all padding."""
    config, expected = reference
    assert_same(run_sgd(config, mode, count, steps), expected)


def assert_same(got, expected):
    """Losses, parameters and metrics are equal but for float32's rounding."""
    losses, params, sums, outputs = expected
    np.testing.assert_allclose(got[0], losses, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), got[1], params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), got[2], sums)
    np.testing.assert_allclose(got[3], outputs, atol=1e-5)


def test_two_processes_of_two_devices(reference, data_dir, tmp_path):
    _, (losses, params, sums, outputs) = reference
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.plain_sgd", str(index), "2", port, data_dir,
             str(tmp_path / f"{index}.npz")],
            cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True,
        )
        for index in range(2)
    ]  # fmt: skip
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    results = [np.load(tmp_path / f"{index}.npz") for index in range(2)]
    for got in results:
        np.testing.assert_allclose(got["losses"], losses, rtol=1e-5)
        for layer, leaves in params.items():
            for name, leaf in leaves.items():
                np.testing.assert_allclose(got[f"{layer} {name}"], leaf, atol=2e-6)
        for name, values in sums.items():
            np.testing.assert_allclose(got[name], np.array(values), rtol=1e-4)
    together = np.concatenate([got["outputs"] for got in results])
    np.testing.assert_allclose(together, outputs, atol=1e-5)


def test_gradient_accumulation_takes_less_memory():
    whole, parts = (temporary_bytes(64, steps, width=0.0625) for steps in (1, 4))
    assert parts < 0.5 * whole


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(InputError, match="batch_size: 30 does not divide over 4 devices.*is 32"):
        Parallelism("jit", 30)
    with pytest.raises(InputError, match="parallelism: 'pjit' is not one of jit, pmap"):
        Parallelism("pjit", 32)
    said = "gradient_accumulation_steps: 24 examples .* 4 devices do not .* 5 micro.* do: 4, 6"
    with pytest.raises(InputError, match=said):
        Parallelism("jit", 96, 5)
    with pytest.raises(InputError, match="into 100 micro-batches; the nearest that do: 12, 24"):
        Parallelism("jit", 96, 100)


@pytest.mark.parametrize(
    ("environment", "cores", "batch_sizes", "devices"),
    [
        ({}, 2, (64,), 2),
        ({}, 1, (64,), 1),
        ({}, 64, (64,), 4),
        ({}, 6, (64, 96), 2),
        ({}, 4, (25,), 1),
        ({"JAX_NUM_CPU_DEVICES": "1"}, 2, (64,), 1),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, 2, (64,), 3),
    ],
)
def test_each_core_is_a_device(environment, cores, batch_sizes, devices):
    program = (
        f"import os; os.sched_getaffinity = lambda pid: range({cores})\n"
        "import jax; from ssljax.training.parallelism import split_cpu\n"
        f"split_cpu(*{batch_sizes}); print(jax.device_count())"
    )
    inherited = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == str(devices)
