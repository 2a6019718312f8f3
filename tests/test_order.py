from __future__ import annotations

import collections
import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssljax.data.order import Order, record_rng

pytestmark = pytest.mark.quick

shapes = st.tuples(st.integers(1, 60), st.sampled_from([1, 2, 4]), st.integers(1, 6))


def records_of(order, epoch):
    steps = order.steps_per_epoch
    own = [order[index] for index in range(epoch * steps, (epoch + 1) * steps)]
    assert {step.epoch for step in own} == {epoch}
    return [int(record) for step in own for record in step.records]


@pytest.mark.seconds
@given(shapes, st.integers(1, 3), st.booleans(), st.integers(0, 9))
def test_every_epoch_holds_every_record_once_then_its_first_ones_again(
    shape, epochs, shuffle, seed
):
    num_records, processes, share = shape
    order = Order(num_records, processes * share, epochs, shuffle, seed)
    assert len(order) == epochs * order.steps_per_epoch
    for epoch in range(epochs):
        records = records_of(order, epoch)
        assert len(records) == order.steps_per_epoch * order.batch_size
        assert sorted(records[:num_records]) == list(range(num_records))
        repeated = itertools.cycle(records[:num_records])
        assert records == list(itertools.islice(repeated, len(records)))
        first = epoch * order.steps_per_epoch
        masks = np.concatenate([order[first + i].mask for i in range(order.steps_per_epoch)])
        assert masks.tolist() == [True] * num_records + [False] * (len(records) - num_records)
        if not shuffle:
            assert records[:num_records] == list(range(num_records))


@pytest.mark.seconds
@given(shapes, st.integers(0, 9))
@hypothesis.settings(max_examples=20)
def test_processes_share_the_same_global_batches(shape, seed):
    num_records, processes, share = shape
    batch = processes * share
    alone = list(Order(num_records, batch, 2, True, seed))
    parts = [
        list(Order(num_records, batch, 2, True, seed, process_index=p, process_count=processes))
        for p in range(processes)
    ]
    for step, *shares in zip(alone, *parts, strict=True):
        assert {part.epoch for part in shares} == {step.epoch}
        assert [len(part.records) for part in shares] == [share] * processes
        for name in ("records", "mask"):
            together = np.concatenate([getattr(part, name) for part in shares])
            np.testing.assert_array_equal(together, getattr(step, name))


def test_repeated_records_count_where_the_loss_compares_examples():
    steps = list(Order(5, 4, 1, False, count_repeated=True))
    assert [step.records.tolist() for step in steps] == [[0, 1, 2, 3], [4, 0, 1, 2]]
    assert all(step.mask.all() for step in steps)


def test_epochs_and_seeds_differ():
    orders = [Order(50, 10, 2, True, seed) for seed in (0, 1, 2)]
    assert len({tuple(records_of(order, epoch)) for order in orders for epoch in (0, 1)}) == 6


def test_first_places_are_uniform():
    count = collections.Counter(
        Order(4000, 8, 1, True, seed)[0].records[0] // 500 for seed in range(2000)
    )
    assert set(count) == set(range(8))
    chi_square = sum((n - 250) ** 2 / 250 for n in count.values())
    assert chi_square < 30  # 7 degrees of freedom; p = 1e-4


def test_an_index_outside_is_refused():
    with pytest.raises(IndexError):
        Order(3, 2, 1, False)[2]


def test_streams_of_records_epochs_and_seeds_differ():
    draws = {
        record_rng(seed, record, epoch).integers(2**62)
        for seed in range(5)
        for record in range(5)
        for epoch in (None, 0, 1)
    }
    assert len(draws) == 75
    again = record_rng(3, 4, 1).integers(100, size=5)
    np.testing.assert_array_equal(again, record_rng(3, 4, 1).integers(100, size=5))


def test_a_stream_is_a_new_philox_whatever_was_drawn_before():
    record_rng(1, 2, 3).random(7, np.float32)  # leaves half of a word behind
    fresh = np.random.Philox(
        key=np.array([5, 6], np.uint64), counter=np.array([0, 0, 0, 8], np.uint64)
    )
    expected = np.random.Generator(fresh)
    stream = record_rng(5, 6, 7)
    np.testing.assert_array_equal(stream.permutation(9), expected.permutation(9))
    np.testing.assert_array_equal(stream.random(3, np.float32), expected.random(3, np.float32))
