"""A batch that is larger than the split is said, and refused if it need not be."""

from __future__ import annotations

import pytest

from ssljax import load_run, study
from ssljax.evaluate import evaluate
from ssljax.runs.config import resolve
from ssljax.runs.metrics_log import read_metrics
from ssljax.runs.run import open_run
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from ssljax.training.training_records import training_records
from ssljax.training.validation import Evaluator
from tests import tiny_study

pytestmark = pytest.mark.quick


@pytest.fixture
def config(make_config):
    config = make_config("classification,small_net")
    config.data.train_split = "images[:45]"
    config.epochs = 1
    return config


@pytest.mark.parametrize("batch_size", [52, 256, 10**6])
def test_a_batch_beyond_the_next_multiple_of_the_devices_is_refused(config, tmp_path, batch_size):
    config.batch_size = batch_size
    said = (
        rf"batch_size: {batch_size:,} is more than the 45 images of .*; it can be at most 48 on 4"
    )
    with pytest.raises(InputError, match=said):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_micro_batches_need_a_larger_multiple(make_config):
    config = make_config("classification")
    config.data.train_split = "images[:45]"
    config.batch_size, config.gradient_accumulation_steps = 60, 6
    with pytest.raises(InputError, match="it can be at most 48 on 4 devices"):
        training_records(open_run(resolve(config)))
    config.gradient_accumulation_steps = 5
    assert len(training_records(open_run(resolve(config)))) == 45


@pytest.mark.seconds
def test_repeated_images_are_said_and_do_not_count(config, tmp_path, capsys):
    config.batch_size = 48
    train(config, tmp_path / "run")
    said = capsys.readouterr().err
    assert "batch_size: 48 is more than the 45 images of fashion_mnist_10k, split imag" in said
    assert "3 images of each step are repeated and do not count" in said
    config.batch_size = 44
    train(config, tmp_path / "smaller")
    assert "repeated" not in capsys.readouterr().err


def test_a_share_of_the_labels_counts(config, tmp_path):
    config.data.label_fraction = 0.5
    with pytest.raises(InputError, match="batch_size: 32 .* images of .*, 50.000% of the labels"):
        train(config, tmp_path / "run")


def test_a_study_checks_every_share_before_it_trains(data_dir, tmp_path):
    config = tiny_study.get_config()
    for run in (config.classification, *config.pretexts.values()):
        run.data.data_dir = data_dir
    config.label_fractions = (1.0, 0.1)
    with pytest.raises(InputError, match="batch_size: 32 .* images of .*, 10.000% of the labels"):
        study(config, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_small_split_is_evaluated_in_a_batch_of_the_usual_size(config, tmp_path):
    config.data.train_split = "images[:64]"
    config.data.validation_split = "images[300:310]"
    train(config, tmp_path / "run")
    [validated] = [row for row in read_metrics(tmp_path / "run") if row["kind"] == "validation"]
    model = load_run(tmp_path / "run")
    [(batch, _, _)] = Evaluator(model.run, model.run.images("images[300:310]")).batches(model.parts)
    assert batch["mask"].tolist() == [True] * 10 + [False] * 22
    result = evaluate(tmp_path / "run", split="images[300:310]")
    assert result["metrics"]["loss"] == pytest.approx(validated["loss"], rel=1e-6)
