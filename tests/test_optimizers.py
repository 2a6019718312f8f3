from __future__ import annotations

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssljax.training.optimizers import step_decay


@given(
    st.floats(1e-6, 1), st.integers(1, 7), st.floats(0.01, 1), st.integers(1, 50),
    st.integers(0, 2000),
)  # fmt: skip
def test_the_learning_rate_falls_by_its_factor_after_every_few_epochs(
    rate, every, factor, steps_per_epoch, step
):
    expected = rate
    for epoch in range(1, step // steps_per_epoch + 1):
        if epoch % every == 0:
            expected *= factor
    schedule = step_decay(rate, every, factor, steps_per_epoch)
    assert schedule(step) == pytest.approx(expected, rel=1e-9)
    if expected > 1e-30:
        assert float(jax.jit(schedule)(step)) == pytest.approx(expected, rel=1e-5)
