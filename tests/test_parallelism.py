from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks import puzzle_task
from benchmarks.step_memory import temporary_bytes
from ssljax import train_config
from ssljax.devices import cpu
from ssljax.devices.parallelism import Parallelism
from ssljax.runs.config import cpu_devices
from ssljax.settings.errors import InputError

pytestmark = pytest.mark.quick


@pytest.mark.seconds
def test_gradient_accumulation_takes_less_memory():
    config, needed = puzzle_task.config(64, 0.0625), []
    for config.gradient_accumulation_steps in (1, 4):
        needed.append(temporary_bytes(config))
    assert needed[1] < 0.5 * needed[0]


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(InputError, match="batch_size: 30 does not divide among 4 devices.*is 32"):
        Parallelism("jit", 30)
    with pytest.raises(InputError, match="parallelism must be one of jit, pmap, got 'pjit'"):
        Parallelism("pjit", 32)
    said = "gradient_accumulation_steps: 24 examples .* 4 devices do not .* 5 micro.* do: 4, 6"
    with pytest.raises(InputError, match=said):
        Parallelism("jit", 96, 5)
    with pytest.raises(InputError, match="into 100 micro-batches; the nearest that do: 12, 24"):
        Parallelism("jit", 96, 100)


@pytest.mark.parametrize(
    ("parameters", "batch_size", "cores", "devices"),
    [(1e6, 64, 2, 2), (1e6, 64, 1, 1), (1e6, 64, 64, 4), (1e6, 25, 4, 1), (6e7, 64, 2, 1)],
)
def test_a_device_for_each_core_unless_the_model_is_large(parameters, batch_size, cores, devices):
    assert cpu.choose(parameters, batch_size, cores) == devices


def test_the_number_of_devices_of_a_run(monkeypatch):
    monkeypatch.setattr(cpu, "cores", lambda: 2)
    config = train_config("classification")
    assert cpu_devices(config) == 1  # AlexNet at full width
    config.model.width = 0.25
    assert cpu_devices(config) == 2
    assert cpu_devices(config, recorded={"cpu_devices": 3}) == 3
    config.data.image_size = 28  # refused later, by whoever builds the run
    assert cpu_devices(config) == 2
    config.cpu_devices = 4
    assert cpu_devices(config, recorded={"cpu_devices": 3}) == 4


@pytest.mark.parametrize(
    ("environment", "wanted", "devices"),
    [
        ({}, (2,), 2),
        ({}, (2, 4), 2),
        ({}, (3, 2), 1),
        ({"JAX_NUM_CPU_DEVICES": "1"}, (2,), 1),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, (2,), 3),
    ],
)
def test_a_cpu_is_split_unless_the_environment_asks_for_another_number(
    environment, wanted, devices
):
    program = (
        f"import jax; from ssljax.devices import cpu; cpu.split(*{wanted})\n"
        "print(jax.device_count())"
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
