"""Two short runs end with the losses that are kept with the tests."""

from __future__ import annotations

import json

import pytest

from tests import golden


@pytest.mark.parametrize("method", golden.RUNS)
def test_losses_are_those_of_the_golden_file(method, data_dir):
    """The weights are those of the seed, dropout is off."""
    expected = json.loads(golden.run_path(method).read_text())
    assert golden.losses(method, data_dir) == pytest.approx(expected, rel=1e-5)
