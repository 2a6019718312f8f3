from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import jax
import numpy as np
import pytest

from ssljax.errors import InputError, TrainingFailed
from ssljax.training import initialization
from ssljax.training.checkpoints import Checkpoints
from ssljax.training.lock import lock
from ssljax.training.loop import train
from ssljax.training.run_folder import read_metrics
from tests.kills import same, untimed


def latest_params(folder):
    checkpoints = Checkpoints(folder, read_only=True)
    params = checkpoints.restore_params("latest", checkpoints.step("latest"))
    checkpoints.close()
    return params


def test_the_run_folder_tells_what_was_run(pretext_run):
    config = json.loads((pretext_run / "config.json").read_text())
    assert config["task"] == {
        "name": "jigsaw", "grid": 2, "tile": 32, "gap": 2, "normalize_tiles": False,
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
        checkpoints = Checkpoints(folder, read_only=True)
        rows = [row for row in read_metrics(folder) if row["kind"] == "validation"]
        best = max(rows, key=lambda row: (sign * row[metric], -row["step"]))
        assert checkpoints.step("latest") == 14
        assert checkpoints.step("best") == best["step"]
        assert checkpoints.metadata("best", best["step"])["validation"][metric] == best[metric]
        checkpoints.close()


def test_classification_starts_from_the_pretext_runs_convolutions(pretext_run, classification_run):
    report = json.loads((classification_run / "init.json").read_text())
    convolutions = sorted(f"conv{i}/{name}" for i in range(1, 6) for name in ("bias", "kernel"))
    dense = sorted(f"fc{i}/{name}" for i in range(6, 9) for name in ("bias", "kernel"))
    assert report["loaded"] == convolutions
    assert report["fresh"] == report["skipped"] == dense
    assert str(pretext_run) in report["from"]
    assert "latest, step 14" in report["from"]


def test_what_is_carried_over_is_the_source():
    rng = np.random.default_rng(0)
    layers = {"conv1": (3, 2), "fc6": (4, 4), "fc8": (4, 2)}
    fresh = {
        name: {"kernel": jax.numpy.asarray(rng.normal(size=shape), jax.numpy.float32)}
        for name, shape in layers.items()
    }
    source = jax.tree.map(lambda leaf: np.asarray(leaf) + 1, fresh)
    params, report = initialization.carry_over(fresh, source, "conv*, fc6")
    np.testing.assert_array_equal(params["fc6"]["kernel"], source["fc6"]["kernel"])
    np.testing.assert_array_equal(params["fc8"]["kernel"], fresh["fc8"]["kernel"])
    assert report["loaded"] == ["conv1/kernel", "fc6/kernel"]
    assert initialization.fingerprint(params, "conv*") == initialization.fingerprint(
        {**source, "fc6": fresh["fc6"]}, "conv1"
    )
    assert initialization.fingerprint(params, "*") != initialization.fingerprint(source, "*")
    for layers, said in (
        ("", "names no layer"),
        ("convv1", "matches no layer; did you mean 'conv1'"),
        ("fc8", r"fc8/kernel is \(9, 9\) in the source and \(4, 2\) in this model"),
    ):
        with pytest.raises(InputError, match=said):
            initialization.carry_over(
                fresh, {**source, "fc8": {"kernel": np.zeros((9, 9))}}, layers
            )
    with pytest.raises(InputError, match="the source has no layer fc6"):
        initialization.carry_over(fresh, {"conv1": source["conv1"]}, "*")


def test_a_longer_run_goes_on_and_equals_one_that_was_not_stopped(make_config, tmp_path):
    config = make_config("classification")
    config.checkpoint_every_steps = 5
    for epochs in (1, 3):
        config.epochs = epochs
        train(config, tmp_path / "twice")
    train(config, tmp_path / "once")
    assert same(tmp_path / "twice", tmp_path / "once")
    # A third call finds everything done, and a metrics file cut short is mended.
    before = (tmp_path / "once" / "metrics.jsonl").read_bytes()
    (tmp_path / "once" / "metrics.jsonl").write_bytes(before + b'{"kind": "tra')
    train(config, tmp_path / "once")
    assert (tmp_path / "once" / "metrics.jsonl").read_bytes() == before


def test_a_run_stopped_in_its_warmup_goes_on_in_it(make_config, tmp_path):
    config = make_config("classification")
    config.optimizer.learning_rate_scaling, config.optimizer.base_batch_size = "sqrt", 8
    config.schedule.warmup_epochs = 2.0
    config.gradient_accumulation_steps = 2
    config.log_every_steps, config.checkpoint_every_steps = 1, 4
    train(config, tmp_path / "once")
    rows = [row for row in read_metrics(tmp_path / "once") if row["kind"] == "train"]
    expected = [2e-3 * step / 14 for step in range(1, 15)]
    assert [row["learning_rate"] for row in rows] == pytest.approx(expected, rel=1e-12)
    shutil.copytree(tmp_path / "once", tmp_path / "twice")
    shutil.rmtree(tmp_path / "twice/checkpoints/latest/14")  # step 12 is left
    train(config, tmp_path / "twice")
    assert same(tmp_path / "twice", tmp_path / "once")


def test_a_run_goes_on_under_pmap_in_micro_batches(make_config, tmp_path):
    config = make_config("jigsaw")
    config.epochs = 1
    train(config, tmp_path / "run")
    config.epochs, config.parallelism, config.gradient_accumulation_steps = 2, "pmap", 4
    train(config, tmp_path / "run")
    assert read_metrics(tmp_path / "run")[-1]["step"] == 14


def test_a_loss_that_is_not_finite_stops_the_run(make_config, tmp_path):
    config = make_config("classification")
    config.optimizer.learning_rate = 1e30
    with pytest.raises(TrainingFailed) as error:
        train(config, tmp_path / "diverging")
    message = str(error.value)
    assert re.search(r"the loss of step \d+ is (nan|inf)|parameters after step \d+", message)
    assert "no checkpoint was complete before" in message


def mistake(config, key, value):
    group = config
    *parents, last = key.split(".")
    for parent in parents:
        group = group[parent]
    with group.unlocked():
        group[last] = value


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("epochs", 0, "epochs: 0 is not above 0"),
        ("batch_size", 30, "batch_size: 30 does not divide over 4 devices"),
        ("gradient_accumulation_steps", 3, "gradient_accumulation_steps: 8 .* nearest .* 2, 4"),
        ("gradient_accumulation_steps", 0, "gradient_accumulation_steps: 0 is not above 0"),
        ("optimizer.learning_rate_scaling", "lin", "'lin' is none of 'none', 'linear', 'sqrt'"),
        ("optimizer.base_batch_size", 0, "optimizer.base_batch_size: 0 is not above 0"),
        ("schedule.warmup_epochs", 2.5, "warmup_epochs: 2.5 are more than the 2 epochs of train"),
        ("schedule.warmup_epochs", -1.0, "schedule.warmup_epochs: -1.0 is below 0"),
        ("data.image_size", 40, "tiles of 32 px do not fit data.image_size=40"),
        ("task.tile", 20, "data.image_size: pictures of 40 px are too small.*at least 64"),
        ("task.grdi", 3, "task.grdi: jigsaw has no such option; did you mean 'grid'"),
        ("optimizer.name", "adamw", "optimizer.name: unknown optimizer 'adamw'"),
        ("optimizer.learning_rte", 1.0, "unknown key optimizer.learning_rte: did you mean"),
        ("model.dropout", 1.0, "model.dropout: 1.0 is not below 1"),
        ("data.std", (0.5, 0.5, 0.0), "data.std"),
        ("data.mean", (0.5,), "data.mean: .* is not three numbers"),
        ("data.std", ("a", "b", "c"), "data.std: .* is not three numbers"),
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


def test_a_folder_of_another_run_is_refused(make_config, pretext_run):
    before = (pretext_run / "config.json").read_bytes()
    with pytest.raises(InputError, match="holds a run of the task jigsaw, not classification"):
        train(make_config("classification"), pretext_run)
    config = make_config("jigsaw")
    config.optimizer.learning_rate = 0.5
    with pytest.raises(InputError, match=r"other settings \(optimizer.learning_rate 0.001 → 0.5\)"):
        train(config, pretext_run)
    assert (pretext_run / "config.json").read_bytes() == before


def test_a_checkpoint_of_another_architecture_is_refused(make_config, pretext_run, tmp_path):
    config = make_config("classification")
    config.model.width = 0.125
    config.init_from = str(pretext_run)
    with pytest.raises(InputError, match=r"conv1/bias is \(4,\) in the source and \(8,\) in this"):
        train(config, tmp_path / "run")
    state = jax.eval_shape(lambda: {"conv1": {"kernel": jax.numpy.zeros((11, 11, 3, 8))}})
    checkpoints = Checkpoints(pretext_run, read_only=True)
    with pytest.raises(
        InputError, match=r"of another architecture: .*conv1/kernel \(11, 11, 3, 4\)"
    ):
        checkpoints.restore_params("latest", 14, state)
    checkpoints.close()


def test_a_damaged_checkpoint_is_named(make_config, tmp_path):
    config = make_config("jigsaw")
    config.epochs = 1
    train(config, tmp_path / "run")
    (folder,) = (tmp_path / "run" / "checkpoints" / "latest").iterdir()
    for path in folder.glob("params/**/d/*"):
        path.write_bytes(path.read_bytes()[:10])
    config.epochs = 2
    with pytest.raises(
        InputError, match=rf"checkpoint {folder} is damaged: .*beside it there is best \(step 7\)"
    ):
        train(config, tmp_path / "run")


@pytest.mark.parametrize("damage", ["missing params", "missing file", "truncated"])
def test_the_checkpoint_before_a_damaged_one_restores(make_config, tmp_path, capsys, damage):
    config = make_config("jigsaw")
    train(config, tmp_path / "undisturbed")
    shutil.copytree(tmp_path / "undisturbed", tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "latest" / "14"
    if damage.startswith("missing ") and damage != "missing file":
        shutil.rmtree(newest / damage.split()[1])
    largest = max(newest.rglob("optimizer/**/d/*"), key=lambda path: path.stat().st_size)
    if damage == "missing file":
        largest.unlink()
    if damage == "truncated":
        largest.write_bytes(largest.read_bytes()[:1000])
    config.epochs = 3
    for folder in ("undisturbed", "run"):
        train(config, tmp_path / folder)
    said = capsys.readouterr().err
    assert f"checkpoint {newest} is damaged" in said
    assert "beside it there is best (step 14), latest (step 7); going on from step 7" in said
    assert (tmp_path / "run/checkpoints/damaged/14").is_dir()
    assert same(tmp_path / "run", tmp_path / "undisturbed")


def test_a_folder_that_cannot_be_written_is_named(make_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--workdir: cannot write"):
        train(make_config("jigsaw"), tmp_path / "file" / "run")


def test_validating_less_often(make_config, tmp_path):
    config = make_config("classification")
    config.epochs, config.validate_every_epochs = 5, 2
    train(config, tmp_path / "once")
    rows = read_metrics(tmp_path / "once")
    assert [row["step"] for row in rows if row["kind"] == "validation"] == [14, 28, 35]
    config.epochs = 4
    train(config, tmp_path / "twice")
    config.epochs = 5
    train(config, tmp_path / "twice")
    assert untimed(read_metrics(tmp_path / "twice")) == untimed(rows)
    config.epochs = 6
    with pytest.raises(InputError, match="ended, and was validated, after epoch 5; .*every 2 epoc"):
        train(config, tmp_path / "twice")


def test_keeping_pictures_and_going_on_without_changes_nothing(make_config, pretext_run, tmp_path):
    config = make_config("jigsaw")
    config.data.cache, config.epochs = "ram", 1
    train(config, tmp_path / "run")
    config.data.cache, config.epochs = "", 2
    train(config, tmp_path / "run")
    assert untimed(read_metrics(tmp_path / "run")) == untimed(read_metrics(pretext_run))


def test_a_folder_with_weights_alone_is_not_trained_in(make_config, pretext_run, tmp_path):
    shutil.copytree(pretext_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/latest")
    with pytest.raises(InputError, match="holds weights, but no state to go on from"):
        train(make_config("jigsaw"), tmp_path / "run")
    assert (tmp_path / "run/checkpoints/best/14").is_dir()


def test_two_processes_in_one_folder_are_refused(make_config, tmp_path):
    config = make_config("jigsaw")
    config.epochs = 1
    train(config, tmp_path / "run")
    config.epochs = 2
    with (
        lock(tmp_path / "run" / ".lock", ""),
        pytest.raises(InputError, match="another process is training in .*/run"),
    ):
        train(config, tmp_path / "run")
    train(config, tmp_path / "run")


def test_frozen_layers_stay_and_the_others_learn(make_config, pretext_run, tmp_path):
    config = make_config("classification")
    config.init_from = str(pretext_run)
    config.frozen_layers = "conv*"
    train(config, tmp_path / "run")
    source, result = latest_params(pretext_run), latest_params(tmp_path / "run")
    for layer in result:
        unchanged = np.array_equal(source[layer]["kernel"], result[layer]["kernel"])
        assert unchanged == layer.startswith("conv"), layer
    config.frozen_layers = "conw*"
    with pytest.raises(InputError, match="frozen_layers: 'conw\\*' matches no layer; did you mean"):
        train(config, tmp_path / "other")


def test_a_fraction_of_the_labels(make_config, tmp_path):
    config = make_config("classification")
    config.data.label_fraction = 0.25
    train(config, tmp_path / "run")
    assert read_metrics(tmp_path / "run")[-1]["step"] == 4  # 50 of 200 in batches of 32, twice


def test_a_mistake_that_is_mended_leaves_no_trace_in_the_folder(make_config, pretext_run, tmp_path):
    config = make_config("classification")
    config.init_from, config.init_layers = str(pretext_run), "convx"
    with pytest.raises(InputError, match="init_layers: 'convx' matches no layer"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    config.init_layers = "conv*"
    config.epochs = 1
    train(config, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "init.json").read_text())["loaded"]


def test_a_run_is_tied_to_what_it_started_from(make_config, pretext_run, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(pretext_run, moved)
    config = make_config("classification")
    config.epochs = 1
    (tmp_path / "random").mkdir()  # a start that was killed before its first checkpoint
    (tmp_path / "random" / "init.json").write_text("{}")
    train(config, tmp_path / "random")
    config.init_from = str(moved)
    before = (tmp_path / "random" / "config.json").read_bytes()
    with pytest.raises(InputError, match="was started from random weights, not from"):
        train(config, tmp_path / "random")
    assert (tmp_path / "random" / "config.json").read_bytes() == before
    train(config, tmp_path / "carried")
    config.init_from = str(pretext_run)  # the same weights in another place
    train(config, tmp_path / "carried")
    pretext = make_config("jigsaw")
    pretext.epochs = 3
    train(pretext, moved)
    config.init_from = str(moved)
    with pytest.raises(InputError, match=r"step 14\), and .*step 21\) holds other weights"):
        train(config, tmp_path / "carried")
    shutil.rmtree(moved)
    train(config, tmp_path / "carried")


def test_going_on_with_fewer_epochs_is_refused(make_config, pretext_run):
    config = make_config("jigsaw")
    config.epochs = 1
    with pytest.raises(InputError, match="epochs: 1 end at step 7, but .* is at step 14 already"):
        train(config, pretext_run)


def test_rates_count_images_and_not_padding(make_config, tmp_path):
    config = make_config("jigsaw")
    config.log_every_steps = 1
    config.epochs = 1
    train(config, tmp_path / "run")
    rows = [row for row in read_metrics(tmp_path / "run") if row["kind"] == "train"]
    assert rows[0]["images_per_second"] == 0  # the compiling step
    assert all(0 < row["images_per_second"] < 1e5 for row in rows[1:])


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_ends_the_run_and_the_last_checkpoint_restores(make_config, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        config = make_config("jigsaw")
        config.epochs = 1
        train(config, small / "run")
        good = latest_params(small / "run")
        free = shutil.disk_usage(small).free
        (small / "ballast").write_bytes(b"x" * (free - 20_000))
        config.epochs = 4
        with pytest.raises(
            TrainingFailed, match=r"cannot write .*the last good checkpoint is .*/7"
        ):
            train(config, small / "run")
        jax.tree.map(np.testing.assert_array_equal, latest_params(small / "run"), good)
        (small / "ballast").unlink()
        train(config, small / "run")
        assert read_metrics(small / "run")[-1]["step"] == 28
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
