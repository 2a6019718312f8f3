"""All that training changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from ssljax.runs.run import Run


class TrainState(flax.struct.PyTreeNode):
    """What a step changes; a run that resumes needs nothing else of the network.

    Attributes:
      step: int32[], steps done.
      params: float32 parameters, nested dicts by part.
      stats: running statistics of batch normalisation, in the same form; {} if there are none.
      teacher: `params` and `stats` of the teacher; {} if the method has none.
      memory: what the method keeps from earlier steps; {} if nothing.
      opt_state: the optimiser's state.
    """

    step: jax.Array
    params: Any
    stats: Any
    teacher: Any
    memory: Any
    opt_state: Any

    def parts(self) -> dict[str, Any]:
        """The parts of a checkpoint to continue from."""
        return {
            **self.weights(),
            "optimizer": {"step": self.step, "state": self.opt_state},
        }

    def weights(self) -> dict[str, Any]:
        """The parts of a checkpoint to evaluate."""
        return {
            "params": self.params,
            "stats": self.stats,
            "teacher": self.teacher,
            "memory": self.memory,
        }

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any]) -> TrainState:
        """The inverse of `parts`."""
        return cls(
            parts["optimizer"]["step"],
            parts["params"],
            parts["stats"],
            parts["teacher"],
            parts["memory"],
            parts["optimizer"]["state"],
        )


def initial_state(run: Run, optimizer: optax.GradientTransformation) -> TrainState:
    """The state of step 0, from the config's seed; run it inside jit."""
    params, stats = run.initial_variables()
    return new_state(run, optimizer, params, stats)


def new_state(
    run: Run, optimizer: optax.GradientTransformation, params: Any, stats: Any
) -> TrainState:
    """The state of step 0 with given weights; the teacher begins as a copy of them."""
    has_teacher = run.method.has_teacher
    copy = {"params": params, "stats": stats} if has_teacher else {}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        stats=stats,
        teacher=jax.tree.map(jnp.copy, copy),
        memory=run.method.first_memory(),
        opt_state=optimizer.init(params),
    )
