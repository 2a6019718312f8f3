from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssljax import train_config
from ssljax.training.schedules import (
    cosine,
    learning_rate,
    scaled_learning_rate,
    step_decay,
    warmup,
    weight_decay,
)

pytestmark = pytest.mark.quick


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


@given(st.floats(1e-6, 1), st.integers(0, 300), st.integers(0, 1000))
def test_warmup_rises_in_equal_parts_from_the_first_step(rate, steps, step):
    expected = rate * min(1, (step + 1) / max(1, steps))
    schedule = warmup(step_decay(rate, 2, 0.5, steps_per_epoch=1000), steps)
    assert schedule(step) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("scaling", "batch_size", "expected"),
    [("none", 1024, 1e-3), ("linear", 1024, 16e-3), ("sqrt", 1024, 4e-3), ("sqrt", 16, 0.5e-3),
     ("linear", 64, 1e-3)],
)  # fmt: skip
def test_the_learning_rate_grows_with_the_batch(scaling, batch_size, expected):
    config = train_config()
    config.optimizer.learning_rate = 1e-3
    config.optimizer.learning_rate_scaling = scaling
    assert scaled_learning_rate(config.optimizer, batch_size) == pytest.approx(expected)


def test_the_schedule_of_a_config():
    config = train_config()
    config.batch_size = 256
    config.optimizer.learning_rate = 1e-3
    config.optimizer.learning_rate_scaling = "linear"
    config.schedule.every_epochs = 1
    config.schedule.warmup_epochs = 1.5
    schedule = learning_rate(config, steps_per_epoch=4)
    expected = [4e-3 * part for part in (1 / 6, 2 / 6, 3 / 6, 4 / 6, 0.3 * 5 / 6, 0.3, 0.3, 0.3)]
    assert [schedule(step) for step in range(8)] == pytest.approx(expected, rel=1e-12)
    on_devices = jax.jit(schedule)(jax.numpy.arange(8))
    np.testing.assert_allclose(on_devices, expected, rtol=1e-6)
    assert schedule(8) == pytest.approx(4e-3 * 0.09)


@given(st.floats(1e-6, 1), st.floats(0, 1), st.integers(1, 500), st.integers(0, 100))
def test_a_cosine_falls_from_its_value_to_the_final_one(value, share, steps, warmup_steps):
    schedule = cosine(value, share * value, warmup_steps + steps, warmup_steps)
    at = [float(schedule(warmup_steps + round(part * steps))) for part in (0, 0.5, 1, 2)]
    assert at[0] == pytest.approx(value, rel=1e-5)
    assert at[2] == at[3] == pytest.approx(share * value, rel=1e-4, abs=1e-6 * value)
    if steps % 2 == 0:
        assert at[1] == pytest.approx((1 + share) / 2 * value, rel=1e-4)


def test_each_schedule_of_a_config():
    config = train_config()
    config.epochs, config.optimizer.learning_rate, config.optimizer.weight_decay = 4, 2.0, 0.1
    config.schedule.name = "constant"
    assert [learning_rate(config, 5)(step) for step in (0, 19)] == [2, 2]
    config.schedule.name, config.schedule.final = "cosine", 0.1
    assert float(learning_rate(config, 5)(10)) == pytest.approx(1.1)
    assert weight_decay(config, 5) == 0.1
    config.schedule.weight_decay, config.schedule.final_weight_decay = "cosine", 0.4
    decay = weight_decay(config, 5)
    assert [float(decay(step)) for step in (0, 10, 20)] == pytest.approx([0.1, 0.25, 0.4])
