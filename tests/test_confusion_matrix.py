from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from ssljax.evaluate import save
from ssljax.report import confusion_matrix, curves
from ssljax.report.curves import Curve
from ssljax.runs.folder import open_run_folder
from ssljax.settings.errors import InputError

pytestmark = pytest.mark.quick

HOSTILE = (
    "$",
    "$x_{$",
    "a $\\frac{1}{0}$",
    "50 % & <b>",
    "\\",
    "_hidden",
    "",
    "a\nb",
    "名前",
    "x" * 500,
)


def result(classes, names=None):
    rng = np.random.default_rng(0)
    return {
        "dataset": "fashion_mnist_10k", "split": "test", "checkpoint": "best", "step": 7,
        "examples": 10, "metrics": {},
        "chance": {}, "class_names": names or [f"class {k}" for k in range(classes)],
        "confusion": rng.integers(0, 5, (classes, classes)).tolist(),
    }  # fmt: skip


@pytest.fixture
def run(make_config, tmp_path):
    """A run folder without checkpoints and results."""
    open_run_folder(tmp_path, make_config("classification"))
    return tmp_path


@pytest.mark.parametrize("classes", [2, 50, 365, pytest.param(1000, marks=pytest.mark.seconds)])
def test_the_image_is_bounded_whatever_the_number_of_classes(run, classes):
    save(result(classes), run)
    with Image.open(run / "evaluation/test-step-7.png") as image:
        assert 300 < image.size[0] <= 2000
        assert 300 < image.size[1] <= 2000
    assert (run / "evaluation/test-step-7.png").stat().st_size < 2**20


def test_the_numbers_are_kept_if_the_image_cannot_be_written(run):
    (run / "evaluation/test-step-7.png").mkdir(parents=True)
    with pytest.raises(InputError, match="cannot write"):
        save(result(3), run)
    assert json.loads((run / "evaluation/test-step-7.json").read_text()) == result(3)


@pytest.mark.filterwarnings("error")
def test_names_of_classes_are_text_and_no_formulas():
    image = confusion_matrix.draw(np.eye(len(HOSTILE), dtype=int), HOSTILE)
    with Image.open(io.BytesIO(image)) as opened:
        assert max(opened.size) <= 2000


@pytest.mark.parametrize("name", [name for name in HOSTILE if "$" in name or "<" in name])
def test_names_in_charts_are_text_and_no_formulas(name):
    svg = curves.draw([Curve(name, [1, 2], [0, 1], 0)], f"Test {name}", name, x_label=name)
    assert svg.startswith("<svg")
    assert "<b>" not in svg
