"""The page of a run: what is on it, and that the training does not depend on it."""

from __future__ import annotations

import base64
import dataclasses
import io
import os
import re
import signal

import jax
import numpy as np
import pytest
from PIL import Image

from ssljax.data.order import Step
from ssljax.data.read_batch import ReadBatch
from ssljax.methods.classification import Classification
from ssljax.methods.simclr import SimCLR
from ssljax.report import (
    curves,
    document,
    filters,
    live_page,
    network_inputs,
    run_charts,
    run_page,
)
from ssljax.report.live_page import LivePage
from ssljax.report.run_page import Content
from ssljax.runs.best_validation import best_validation
from ssljax.runs.config import resolve
from ssljax.runs.metrics_log import read_metrics
from ssljax.runs.run import open_run
from ssljax.runs.trained_model import load_run
from ssljax.settings.errors import Diverged, InputError, Interrupted
from ssljax.train import train
from ssljax.training import loop
from tests.hostile import MARKUP as HOSTILE
from tests.kills import same
from tests.test_hostile_names import Tags
from tests.test_study import Page

RELOADS = '<meta http-equiv="refresh" content="'


@pytest.fixture(scope="module", autouse=True)
def without_pauses():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_page, "_PAUSE", 0)
        yield


@pytest.fixture(scope="module")
def config(make_config):
    return make_config("jigsaw,small_net")


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """A run that was interrupted after each validation, and its page at each point."""
    folder, pages = tmp_path_factory.mktemp("page") / "run", {}

    def validated(page, run, folder, weights):
        real(page, run, folder, weights)
        pages[f"step {read_metrics(folder)[-1]['step']}"] = (folder / "report.html").read_text()
        os.kill(os.getpid(), signal.SIGTERM)

    real = LivePage.validated
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LivePage, "validated", validated)
        with pytest.raises(Interrupted):
            train(config, folder)
        pages["interrupted"] = (folder / "report.html").read_text()
        train(config, folder)
    return folder, pages


def test_the_page_is_written_after_each_validation(trained):
    folder, pages = trained
    first, last = pages["step 7"], pages["step 14"]
    assert (folder / "report.html").read_text() == last
    assert RELOADS in first
    assert RELOADS not in last
    assert "<b>Training</b>: epoch 1 of 2, step 7 of 14" in first
    assert "<b>Finished</b>: epoch 2 of 2, step 14 of 14" in last
    for text in pages.values():
        page = Page(text)
        assert page.open == []
        assert all(link.startswith(("data:image/", "#")) for link in page.links)
        assert page.images == 6 * 2 + 1
    validation = read_metrics(folder)[-1]
    words = " ".join(Page(last).words)
    for said in (
        f"{validation['mse']:.4g}", f"{validation['train_mse']:.4g}", "0.04167", "tiles placed",
        "learning rate", "norms", "images per second", "waiting for input", "Sandal",
        "backbone/conv/kernel: 8 filters of 3×3", "method.grid", "git_commit",
    ):  # fmt: skip
        assert said in words, said


def test_an_interrupted_run_says_so(trained):
    text = trained[1]["interrupted"]
    assert "<b>Ended early</b>: epoch 1 of 2, step 7 of 14" in text
    assert "interrupted; a checkpoint was saved at step 8" in text
    assert RELOADS in text  # its next start is seen there


def test_a_run_with_its_page_ends_with_the_bits_of_one_without(trained, config, tmp_path, capsys):
    loop.train(config, tmp_path / "run")
    assert same(trained[0], tmp_path / "run")
    before = (trained[0] / "report.html").stat()
    train(config, trained[0])
    other = config.copy_and_resolve_references()
    other.seed = 1
    with pytest.raises(InputError, match="holds a run with other settings"):
        train(other, trained[0])
    assert (trained[0] / "report.html").stat() == before
    assert "report.html" not in capsys.readouterr().err


def test_a_page_that_cannot_be_written_ends_nothing(trained, config, tmp_path, monkeypatch, capsys):
    def fails(*arguments, **options):
        raise ZeroDivisionError("a chart\nfails")

    monkeypatch.setattr(curves, "draw", fails)
    monkeypatch.setattr(network_inputs, "sheet", fails)
    (tmp_path / "run" / "report.html").mkdir(parents=True)
    train(config, tmp_path / "run")
    said = capsys.readouterr().err
    assert said.count("the run's page has no charts: a chart\n") == 1
    assert said.count("the run's page has no inputs: a chart\n") == 1
    assert said.count(f"{tmp_path}/run/report.html is not written: Is a directory\n") == 1
    assert same(trained[0], tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.tmp"))


def test_a_run_of_short_epochs_draws_its_page_at_the_end(config, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(live_page, "_PAUSE", 1000)
    monkeypatch.setattr(run_page, "render", lambda content: drawn.append(content) or "a page")
    train(config, tmp_path)
    [content] = drawn
    assert run_page.is_finished(content.run, content.rows)


def test_a_run_that_diverges_before_it_is_validated_has_a_page(config, tmp_path):
    config = config.copy_and_resolve_references()
    config.optimizer.learning_rate, config.log_every_steps = 1e30, 1
    with pytest.raises(Diverged):
        train(config, tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "<b>Ended early</b>: epoch " in text
    assert "Try a lower optimizer.learning_rate" in text
    assert "has not been validated yet" in text
    assert RELOADS not in text


@pytest.fixture(scope="module")
def run(config):
    return open_run(resolve(config))


def test_the_puzzles_are_those_of_training(run):
    sheet = network_inputs.sheet(run, run.config.data.validation_split, count=3)
    images = run.images(run.config.data.validation_split)
    batch = ReadBatch(images, run.method.draw, run.config.seed, True, True)(
        Step(0, np.arange(3), np.ones(3, bool))
    )
    for index, (image, puzzle) in enumerate(sheet.groups):
        np.testing.assert_array_equal(image.pixels, batch["image"][index])
        assert image.caption == run.class_names[batch["label"][index]]
        for place, origin in enumerate(batch["permutation"][index]):
            y, x = (16 * part for part in divmod(origin, 2))
            top, left = batch["offsets"][index][place]
            window = batch["image"][index][y + top :, x + left :][:14, :14]
            row, column = (16 * part + 1 for part in divmod(place, 2))
            shown = puzzle.pixels[row : row + 14, column : column + 14].astype(int)
            assert np.abs(shown - window).max() <= 1


@pytest.mark.quick
def test_inputs_may_be_a_tree_of_views(run):
    views = np.zeros((3, 2, 8, 8, 3), np.float32)
    inputs = {"large": views, "small": views[:, 0, :4, :4], "mask": np.zeros((3, 8, 8), bool)}
    assert list(network_inputs._views(inputs, 3)) == ["large 1", "large 2", "small"]
    assert list(network_inputs._views(views, 3)) == ["input 1", "input 2"]
    assert list(network_inputs._views(jax.numpy.zeros((3, 8, 8, 3), "bfloat16"), 3)) == ["input"]


def test_filters_are_scaled_one_by_one(trained):
    kernel = np.asarray(load_run(trained[0]).params["backbone"]["conv"]["kernel"])
    path, found = filters.first_kernel(load_run(trained[0]).params["backbone"])
    assert path == "conv/kernel"
    np.testing.assert_array_equal(found, kernel)
    encoded = re.search(
        'class="filters"[^>]*base64,([^"]+)"', (trained[0] / "report.html").read_text()
    )[1]
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
    factor = image.shape[0] // 3
    image = image[::factor, ::factor]
    assert image.shape == (3, 8 * 4 - 1, 4)
    for index in range(8):
        own = kernel[..., index]
        scaled = 255 * (own - own.min()) / (own.max() - own.min())
        shown = image[:, 4 * index : 4 * index + 3]
        assert np.abs(shown[..., :3] - scaled).max() <= 0.5001
        assert (shown[..., 3] == 255).all()


@pytest.mark.quick
def test_long_curves_are_means(monkeypatch):
    rows = [{"kind": "train", "epoch": i / 100, "loss": float(i)} for i in range(3000)]
    rows[7]["loss"] = float("nan")
    curve = run_charts._curve(rows, "loss", 0)
    assert len(curve.y) == 300
    assert np.mean(curve.y[50:60]) == pytest.approx(np.mean(np.arange(500, 600)), rel=0.01)


@pytest.mark.quick
def test_every_logged_value_has_a_chart(run):
    rows = [
        {"kind": "train", "step": 1, "epoch": 1.0, "loss": 1.0, "new": 2.0, "input_wait": 0.5,
         "images_per_second": 3.0, "learning_rate": 0.1, "gradient_norm": 1.0},
        {"kind": "validation", "step": 1, "epoch": 1, "loss": 1.0, "knn": 0.5, "train_loss": 1.0},
    ]  # fmt: skip
    charts = run_charts.draw(rows, {"knn": 0.1})
    assert list(charts) == [
        "loss", "knn", "norms", "learning_rate", "images_per_second", "input_wait", "new",
    ]  # fmt: skip
    assert all("currentColor" in chart for chart in charts.values())


@pytest.mark.quick
def test_the_page_names_the_validation_whose_weights_are_kept(run):
    nan, inf = float("nan"), float("inf")
    values = [(1.0, 0.4), (1.0, 0.3), (nan, 0.1), (inf, 0.2), (1.0, nan), (1.0, -inf), (1.0, 0.3)]
    rows = [
        {"kind": "validation", "step": epoch, "epoch": epoch, "loss": loss, "mse": mse}
        for epoch, (loss, mse) in enumerate(values, start=1)
    ]
    best = best_validation(run.method, rows)
    assert best["step"] == 2  # the least one, since less is better, and the first of two
    text = run_page.render(Content(run, rows))
    assert "The best mse in a validation is 0.3, after epoch 2." in text
    assert best_validation(run.method, [*rows[2:6], {"loss": 1.0}]) is None
    accuracies = [{"top1": value, "loss": 1.0} for value in (0.1, 0.2)]
    assert best_validation(Classification, accuracies) == accuracies[1]
    assert best_validation(SimCLR, rows) is None  # its latest weights are handed over


@pytest.mark.quick
def test_the_page_shows_every_name_as_text(run):
    config = run.config.copy_and_resolve_references()
    config.data.dataset = config.data.data_dir = HOSTILE
    named = dataclasses.replace(run, class_names=(HOSTILE,) * 10)
    sheet = document.sheet(network_inputs.sheet(named, config.data.validation_split, count=2))
    rows = [
        {"kind": kind, "step": 1, "epoch": 1, "loss": 1.0, HOSTILE: 0.5, f"train_{HOSTILE}": 1.0}
        for kind in ("train", "validation")
    ]
    text = run_page.render(
        Content(
            dataclasses.replace(named, config=config),
            rows,
            [{"command": HOSTILE}],
            {HOSTILE: 0.1},
            list(run_charts.draw(rows, {HOSTILE: 0.1}).values()),
            sheet,
            (HOSTILE, (3, 3, 3, 8), "data:,"),
            ended=HOSTILE,
        )
    )
    found = Tags(text)
    assert "script" not in found.tags
    assert not [name for name in found.attributes if name.startswith("on")]
    assert "<script" not in text
    assert sum(HOSTILE in part for part in found.text) >= 8
    assert text.count("<b>") == text.count("</b>")
