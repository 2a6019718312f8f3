"""What XLA's compiler for CPUs is told about a step.

By default it hands some operations to the library YNNPACK. For the gradients of a ResNet's 3×3
kernels, YNNPACK takes two to four times as long as Eigen, and for the products of a vision
transformer a quarter longer. Its reductions are faster than XLA's own, and AlexNet's step is faster
with it; see docs/performance.md.
"""

from __future__ import annotations

import functools

import jax

# The collectives of several CPU devices meet in one process, whose threads may have to wait for
# other programs. XLA would give up after 40 seconds.
_PATIENCE = {"xla_cpu_collective_call_terminate_timeout_seconds": 3600}
# Of a program that runs once, in milliseconds, such as the initialisation of weights. XLA would
# take seconds to optimise its random numbers.
RUN_ONCE: dict[str, str | int] = {"xla_backend_optimization_level": 0}
_YNNPACK_ONLY_REDUCES = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


def options(devices: int, without_ynnpack: bool) -> dict[str, str | int]:
    """`compiler_options` of `jax.jit` for a step on CPU devices.

    Args:
      devices: their number.
      without_ynnpack: whether YNNPACK only gets reductions.
    """
    return {**(_PATIENCE if devices > 1 else {}), **(_libraries() if without_ynnpack else {})}


@functools.cache
def _libraries() -> dict[str, str]:
    """Empty if XLA does not know the flag, which is experimental."""
    compiled = jax.jit(lambda: 0, compiler_options=_YNNPACK_ONLY_REDUCES)
    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            compiled.lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return _YNNPACK_ONLY_REDUCES
