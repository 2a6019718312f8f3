from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssljax.data.records import open_records
from ssljax.data.subset import label_fraction, select
from ssljax.settings.errors import InputError

pytestmark = pytest.mark.quick

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=200).map(np.array)


@given(LABELS, st.floats(0.001, 1), st.floats(0.001, 1), st.integers(0, 5))
def test_shares_are_stratified_and_nested(labels, one, other, seed):
    small, large = (select(labels, share, seed) for share in sorted((one, other)))
    assert set(small) <= set(large)
    assert len(set(large)) == len(large)
    for label in np.unique(labels):
        count = (labels == label).sum()
        assert (labels[small] == label).sum() == max(1, round(min(one, other) * count))


def test_seeds_choose_differently_and_everything_is_everything():
    labels = np.arange(1000) % 10
    assert set(select(labels, 0.1, 0)) != set(select(labels, 0.1, 1))
    np.testing.assert_array_equal(select(labels, 1.0, 0), np.arange(1000))


def test_records_of_a_share(data_dir):
    whole = open_records("fashion_mnist_10k", "images[:500]", data_dir)
    assert label_fraction(whole, 1.0, 0) is whole
    share = label_fraction(whole, 0.1, 0)
    labels = [whole[index][1] for index in range(500)]
    assert len(share) == sum(max(1, round(0.1 * labels.count(label))) for label in range(10))
    assert {share[index][0] for index in range(len(share))} < {whole[i][0] for i in range(500)}
    with pytest.raises(InputError, match=r"data.label_fraction: .* has no labels"):
        label_fraction(dataclasses.replace(whole, class_names=()), 0.1, 0)
