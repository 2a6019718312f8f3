"""Data parallelism: a step is written for one device and runs on all of them.

A step sees its device's part of the batch and combines results with collectives over the axis
`AXIS`. It is wrapped in `jax.jit` of `jax.shard_map` over a mesh, or in `jax.pmap`.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssljax.devices import cpu_compiler
from ssljax.models.collectives import AXIS
from ssljax.settings.errors import InputError

MODES = ("jit", "pmap")


class Parallelism:
    """How steps are divided among the devices.

    Attributes:
      mode: `jit` or `pmap`.
      devices: all devices of all processes, those of a process next to each other.
      serial: whether a step must finish before the next one is dispatched. Several queued steps
        with collectives can starve XLA's rendezvous of CPU devices.
    """

    def __init__(
        self,
        mode: str,
        batch_size: int,
        gradient_accumulation_steps: int = 1,
        devices: Sequence[jax.Device] | None = None,
    ):
        """Checks that the global batch divides among the devices, and then into micro-batches.

        Args:
          mode: `jit` or `pmap`.
          batch_size: the global batch.
          gradient_accumulation_steps: micro-batches of each device's part.
          devices: None takes all.

        Raises:
          InputError: it does not, or the mode is unknown or needs a single process.
        """
        if mode not in MODES:
            raise InputError(f"parallelism must be one of {', '.join(MODES)}, got {mode!r}")
        if mode == "pmap" and jax.process_count() > 1:
            raise InputError("parallelism: pmap runs in one process; use jit for several")
        self.mode = mode
        self.devices = sorted(
            devices or jax.devices(), key=lambda device: (device.process_index, device.id)
        )
        if batch_size < 1 or batch_size % len(self.devices):
            raise InputError(
                f"batch_size: {batch_size} does not divide among {len(self.devices)} devices; "
                f"the nearest that does is {_nearest_multiple(batch_size, len(self.devices))}"
            )
        counts = collections.Counter(device.process_index for device in self.devices)
        if len(set(counts.values())) > 1:
            raise InputError(f"the processes have different numbers of devices: {dict(counts)}")
        part = batch_size // len(self.devices)
        if part % gradient_accumulation_steps:
            fitting = [count for count in range(1, part + 1) if part % count == 0]
            fitting.sort(key=lambda count: abs(count - gradient_accumulation_steps))
            raise InputError(
                f"gradient_accumulation_steps: {part} examples for each of "
                f"{len(self.devices)} devices do not divide into {gradient_accumulation_steps} "
                f"micro-batches; the nearest that do: {', '.join(map(str, sorted(fitting[:2])))}"
            )
        self.serial = len(self.devices) > 1 and self.devices[0].platform == "cpu"
        self._mesh = Mesh(np.array(self.devices), (AXIS,), axis_types=(AxisType.Auto,))

    def replicated(self) -> jax.sharding.Sharding:
        """The sharding of the training state."""
        if self.mode == "pmap":
            return jax.sharding.SingleDeviceSharding(self.devices[0])
        return NamedSharding(self._mesh, P())

    def split(self) -> jax.sharding.Sharding:
        """The sharding of a batch: its first axis is divided among the devices."""
        return NamedSharding(self._mesh, P(AXIS))

    def put(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Copies this process's part of a global batch to its devices."""
        if self.mode == "pmap":
            count = len(self.devices)
            split = {key: x.reshape(count, -1, *x.shape[1:]) for key, x in batch.items()}
            return jax.device_put(split, self.split())
        return {
            key: jax.make_array_from_process_local_data(self.split(), x) for key, x in batch.items()
        }

    def train_step(self, step: Callable[..., Any], without_ynnpack: bool) -> Callable[..., Any]:
        """Compiles `step(state, batch) -> (state, sums)`; the given state is donated.

        Args:
          step: computes the part of one device.
          without_ynnpack: see `cpu_compiler.options`; `pmap` cannot pass it on.
        """
        if self.mode == "pmap":
            return jax.pmap(
                step,
                AXIS,
                in_axes=(None, 0),
                out_axes=(None, None),
                donate_argnums=0,
                devices=self.devices,
            )
        return jax.jit(
            self._shard(step, (P(), P(AXIS)), (P(), P())),
            donate_argnums=0,
            compiler_options=self._compiler_options(without_ynnpack),
        )

    def evaluation_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles `step(variables, batch) -> (sums, outputs)`; outputs are arrays [B, …]."""
        if self.mode == "pmap":
            mapped = jax.pmap(
                step, AXIS, in_axes=(None, 0), out_axes=(None, 0), devices=self.devices
            )

            @functools.wraps(step)
            def flat(variables: Any, batch: Any) -> tuple[Any, Any]:
                sums, outputs = mapped(variables, batch)
                return sums, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs)

            return flat
        return jax.jit(
            self._shard(step, (P(), P(AXIS)), (P(), P(AXIS))),
            compiler_options=self._compiler_options(),
        )

    def _compiler_options(self, without_ynnpack: bool = False) -> dict[str, str | int] | None:
        on_cpu = self.devices[0].platform == "cpu"
        return cpu_compiler.options(len(self.devices), without_ynnpack) if on_cpu else None

    def _shard(self, step: Callable[..., Any], in_specs: Any, out_specs: Any) -> Any:
        # check_vma=True would sum the gradients of replicated parameters over the axis, and the
        # step sums them itself.
        return jax.shard_map(
            step, mesh=self._mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
        )


def place(value: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    """Copies an array that every process has to devices of all processes."""
    if sharding.is_fully_addressable or getattr(value, "sharding", None) == sharding:
        return jax.device_put(value, sharding)
    value = np.asarray(value)
    return jax.make_array_from_process_local_data(sharding, value, value.shape)


def own_rows(outputs: jax.Array) -> np.ndarray:
    """This process's rows of a result of the whole batch, [B, …]."""
    parts = {part.index[0].start or 0: part.data for part in outputs.addressable_shards}
    return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)])


def _nearest_multiple(value: int, divisor: int) -> int:
    return max(1, round(value / divisor)) * divisor
