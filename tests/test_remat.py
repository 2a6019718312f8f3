"""`model.remat`: less memory, the same step."""

from __future__ import annotations

import jax
import pytest

from ssljax.models import model_defaults
from ssljax.roofline.step import compile_step
from tests.plain_sgd import assert_same, run_sgd


@pytest.mark.parametrize("method", ["classification", "mae"])
def test_a_step_is_the_same(make_config, method):
    config = make_config(f"{method},small_net")
    expected = run_sgd(config, "jit", 1)
    config = config.copy_and_resolve_references().unlock()
    config.model.remat = True
    assert_same(run_sgd(config, "jit", 1), expected)


def test_a_vision_transformer_keeps_little_for_the_backward_pass(make_config):
    """From two batch sizes: the gradients need as much memory in both."""
    config = make_config("classification").copy_and_resolve_references().unlock()
    config.model = model_defaults("vit_tiny")
    config.model.update(width=1 / 6, heads=2, depth=8, patch=8)
    growth = []
    for config.model.remat in (False, True):
        needed = []
        for config.batch_size in (32, 96):
            needed.append(compile_step(config, jax.devices()[:1]).memory.temporaries)
        growth.append(needed[1] - needed[0])
    assert growth[0] > 3 * growth[1]
