"""How far a teacher is from its student, which every validation measures."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from ssljax.runs.config import resolve
from ssljax.runs.run import open_run
from ssljax.training.run_step import make_run_step
from ssljax.training.validation import Evaluator

LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"


@pytest.fixture(scope="module")
def run(make_config):
    return open_run(resolve(make_config("byol,small_net")))


@pytest.fixture(scope="module")
def weights(run):
    """The student's parameters are those of the teacher and noise."""
    found = jax.device_get(make_run_step(run, steps_per_epoch=7).new_state().weights())
    rng = np.random.default_rng(0)

    def move(leaf: np.ndarray) -> np.ndarray:
        return (leaf + 0.1 * rng.normal(size=leaf.shape)).astype(np.float32)

    return {**found, "params": jax.tree.map(move, found["params"])}


def test_a_validation_is_two_programs_however_many_parameters_there_are(run, weights):
    programs = []
    evaluator = Evaluator(run, run.images("images[:64]"))

    def listen(event: str, seconds: float, **_: object) -> None:
        if event == LOWERED:
            programs.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        evaluator.metrics(weights)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert 1 <= len(programs) <= 2  # the step and the distance, unless it is compiled already


def test_it_is_that_of_all_parameters_in_one_vector(run, weights):
    own, teacher = (
        np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)], dtype=np.float64)
        for tree in (weights["params"], weights["teacher"]["params"])
    )
    found = Evaluator(run, run.images("images[:64]")).metrics(weights)["teacher_distance"]
    assert found == pytest.approx(np.linalg.norm(own - teacher) / np.linalg.norm(own), rel=1e-5)
    assert found > 0.1
