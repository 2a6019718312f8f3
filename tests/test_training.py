"""What a run does and writes."""

from __future__ import annotations

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.methods import METHODS
from ssljax.methods.classification import Classification
from ssljax.runs.metrics_log import read_metrics
from ssljax.runs.saved_checkpoints import SavedCheckpoints
from ssljax.settings.errors import Diverged, InputError, TrainingFailed
from ssljax.training.loop import train


def test_the_run_folder_tells_what_was_run(pretext_run):
    config = json.loads((pretext_run / "config.json").read_text())
    assert config["format"] == 1
    assert (config["model"]["dtype"], config["cpu_devices"]) == ("float32", 4)
    assert config["method"] == {
        "name": "jigsaw", "grid": 2, "tile": 32, "gap": 2, "normalize_tiles": False,
        "shortcuts": False,
    }  # fmt: skip
    assert config["optimizer"]["b2"] == 0.999
    (start,) = json.loads((pretext_run / "environment.json").read_text())
    assert len(start["devices"]) == 4
    assert start["packages"]["jax"] == jax.__version__
    assert list(pretext_run.glob("events.out.tfevents.*"))


def test_metrics_have_a_row_per_interval_and_per_epoch(pretext_run):
    rows = read_metrics(pretext_run)
    steps = {kind: [row["step"] for row in rows if row["kind"] == kind] for kind in
             ("train", "validation")}  # fmt: skip
    # 200 records in batches of 32 are 7 steps; intervals of 3 steps end with the epoch, too.
    assert steps == {"train": [3, 6, 7, 9, 12, 14], "validation": [7, 14]}
    for row in rows:
        assert np.isfinite(row["loss"])
        assert 0 <= row["tiles_placed"] <= 1
    assert rows[0]["learning_rate"] == pytest.approx(1e-3)


def test_latest_and_best_are_kept(pretext_run, classification_run):
    for folder, metric, sign in ((pretext_run, "mse", -1), (classification_run, "top1", 1)):
        checkpoints = SavedCheckpoints(folder)
        rows = [row for row in read_metrics(folder) if row["kind"] == "validation"]
        best = max(rows, key=lambda row: (sign * row[metric], -row["step"]))
        assert checkpoints.step("latest") == 14
        assert checkpoints.step("best") == best["step"]
        assert checkpoints.metadata("best", best["step"])["validation"][metric] == best[metric]


def test_a_loss_that_is_not_finite_stops_the_run(make_config, tmp_path):
    config = make_config("classification,small_net")
    config.optimizer.learning_rate = 1e30
    with pytest.raises(TrainingFailed) as error:
        train(config, tmp_path / "diverging")
    message = str(error.value)
    assert re.search(r"of step \d+ is (nan|inf)|parameters after step \d+", message)
    assert "there is no complete checkpoint" in message


def mistake(config, key, value):
    group = config
    *parents, last = key.split(".")
    for parent in parents:
        group = group[parent]
    with group.unlocked(), group.ignore_type():
        group[last] = value


@pytest.mark.quick
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("epochs", 0, "epochs must be > 0, got 0"),
        ("batch_size", 30, "batch_size: 30 does not divide among 4 devices"),
        ("gradient_accumulation_steps", 3, "gradient_accumulation_steps: 8 .* nearest .* 2, 4"),
        ("gradient_accumulation_steps", 0, "gradient_accumulation_steps must be > 0, got 0"),
        (
            "optimizer.learning_rate_scaling",
            "lin",
            "must be one of 'none', 'linear', 'sqrt', got 'lin'",
        ),
        ("optimizer.base_batch_size", 0, "optimizer.base_batch_size must be > 0, got 0"),
        ("schedule.warmup_epochs", 2.5, r"warmup_epochs must be <= epochs \(2\), got 2.5"),
        ("schedule.warmup_epochs", -1.0, "schedule.warmup_epochs must be >= 0, got -1.0"),
        ("data.image_size", 40, "tiles of 32 px do not fit data.image_size=40"),
        ("method.tile", 20, "data.image_size: images of 40 px are too small.*at least 64"),
        ("method.grdi", 3, "method.grdi: jigsaw has no such option; did you mean 'grid'"),
        ("method.gap", "2", "method.gap: expected int as in 0, got '2'"),
        ("method.name", "jigsew", "method.name: unknown method 'jigsew'; did you mean 'jigsaw'"),
        ("method", {}, "method.name is not set"),
        ("model", {}, "model.name: unknown model ''"),
        ("model", 3, "model: expected a group of settings"),
        ("data", 3, "data: expected a group of settings"),
        ("seed", 2**32, "seed must be <= 4294967295"),
        ("profile_steps", (3,), "profile_steps must be a first and a last step"),
        ("profile_steps", (3, 2), "profile_steps must be a first and a last step"),
        ("init_part", "pupil", "init_part must be one of 'student', 'teacher'"),
        ("schedule.name", "cosin", "schedule.name must be one of 'constant', 'step', 'cosine'"),
        (
            "optimizer.name",
            "adamax",
            "optimizer.name must be one of 'adam', 'adamw', 'sgd', 'lars', got 'adamax'",
        ),
        ("optimizer.learning_rte", 1.0, "unknown key optimizer.learning_rte; did you mean"),
        ("model.dropout", 1.0, "model.dropout must be < 1, got 1.0"),
        ("data.std", (0.5, 0.5, 0.0), "data.std"),
        ("data.mean", (0.5,), "data.mean must be three numbers"),
        ("data.std", ("a", "b", "c"), r"data.std: expected tuple as in \(0.5, 0.5, 0.5\), got"),
        ("data.std", (True,) * 3, r"data.std: expected tuple as in \(0.5, 0.5, 0.5\), got"),
        (
            "data.image_key",
            "label",
            r"data.image_key: .* no Image feature 'label', but \['image'\]",
        ),
        ("data.label_key", "image", "data.label_key: .* no ClassLabel feature 'image'"),
        ("data.train_split", "train", "split 'train' of fashion_mnist_10k"),
        ("data.dataset", "", "data.dataset is not set"),
        ("init_from", "/nowhere", "init_from: /nowhere is neither a run folder nor a file"),
        ("init_from", "/nowhere.pth", "/nowhere.pth: no such file"),
    ],
)
def test_mistakes_in_a_config_are_named(make_config, tmp_path, key, value, said):
    config = make_config("jigsaw")
    mistake(config, key, value)
    with pytest.raises(InputError, match=said):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_folder_that_cannot_be_written_is_named(make_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--workdir: cannot write"):
        train(make_config("jigsaw,small_net"), tmp_path / "file" / "run")


def test_a_fraction_of_the_labels(make_config, tmp_path):
    config = make_config("classification,small_net")
    config.data.label_fraction = 0.25
    train(config, tmp_path / "run")
    assert read_metrics(tmp_path / "run")[-1]["step"] == 4  # 50 of 200 in batches of 32, twice


def test_rates_count_each_image_once(make_config, tmp_path):
    config = make_config("jigsaw,small_net")
    config.log_every_steps = 1
    config.epochs = 1
    train(config, tmp_path / "run")
    rows = [row for row in read_metrics(tmp_path / "run") if row["kind"] == "train"]
    assert rows[0]["images_per_second"] == 0  # the compiling step
    assert all(0 < row["images_per_second"] < 1e5 for row in rows[1:])


def test_the_log_has_the_norms_of_gradient_update_and_parameters(pretext_run):
    for row in read_metrics(pretext_run):
        norms = [row.get(f"{name}_norm") for name in ("gradient", "update", "parameter")]
        if row["kind"] == "train":
            assert all(0 < norm < 1e3 for norm in norms)
        else:
            assert norms == [None] * 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class NanAtTheEnd(Classification):
    """Its loss is NaN where training is done, as validation takes it to be."""

    def loss(self, outputs, context):
        return jnp.where(context.progress == 1, jnp.nan, super().loss(outputs, context))


def test_a_run_that_no_validation_measured_has_diverged(make_config, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "classification", NanAtTheEnd)
    for _ in range(2):  # also if it continues
        with pytest.raises(Diverged, match="every validation is NaN or infinite; "):
            train(make_config("classification,small_net"), tmp_path)
    assert not (tmp_path / "checkpoints/best").exists()


def test_chosen_steps_are_profiled(make_config, tmp_path):
    config = make_config("jigsaw,small_net")
    config.epochs, config.profile_steps = 1, (3, 4)
    train(config, tmp_path / "run")
    assert list((tmp_path / "run/profile").rglob("*.xplane.pb"))


def test_validation_hands_the_run_to_the_caller(make_config, tmp_path):
    seen = []
    config = make_config("jigsaw,small_net")
    train(config, tmp_path, after_validation=lambda run, folder, _: seen.append(
        (run.method.grid, read_metrics(folder)[-1]["step"])
    ))  # fmt: skip
    assert seen == [(2, 7), (2, 14)]


def test_options_that_are_left_out_have_their_defaults(make_config, tmp_path):
    config = make_config("jigsaw")
    with config.unlocked():
        config.model = {"name": "alexnet"}
        config.model.width, config.epochs = 0.0625, 1
        del config.method.normalize_tiles, config.data.cache
    train(config, tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["model"]["dropout"] == 0.5
    assert written["method"]["normalize_tiles"] is False
