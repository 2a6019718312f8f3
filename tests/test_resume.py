"""Runs that continue, and folders that cannot be continued."""

from __future__ import annotations

import json
import re
import shutil
import time

import pytest

from ssljax import load_run
from ssljax.runs import checkpoint_files, checksums
from ssljax.runs.lock import lock
from ssljax.runs.metrics_log import read_metrics
from ssljax.runs.saved_checkpoints import SavedCheckpoints
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from tests.kills import same, untimed


def test_a_longer_run_goes_on_and_equals_one_that_was_not_stopped(make_config, tmp_path):
    config = make_config("classification,small_net")
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
    config = make_config("classification,small_net")
    config.optimizer.learning_rate_scaling, config.optimizer.base_batch_size = "sqrt", 8
    config.schedule.warmup_epochs = 2.0
    config.gradient_accumulation_steps, config.model.normalize = 2, False
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
    config = make_config("jigsaw,small_net")
    config.epochs = 1
    config.model.normalize = False
    train(config, tmp_path / "run")
    config.epochs, config.parallelism, config.gradient_accumulation_steps = 2, "pmap", 4
    train(config, tmp_path / "run")
    assert read_metrics(tmp_path / "run")[-1]["step"] == 14


def test_a_folder_of_another_run_is_refused(make_config, pretext_run):
    before = (pretext_run / "config.json").read_bytes()
    with pytest.raises(InputError, match="holds a run of the method jigsaw, not classification"):
        train(make_config("classification"), pretext_run)
    config = make_config("jigsaw")
    config.optimizer.learning_rate = 0.5
    with pytest.raises(InputError, match=r"other settings \(optimizer.learning_rate 0.001 → 0.5\)"):
        train(config, pretext_run)
    assert (pretext_run / "config.json").read_bytes() == before


def test_a_damaged_checkpoint_is_named(make_config, tmp_path):
    config = make_config("jigsaw,small_net")
    config.epochs = 1
    train(config, tmp_path / "run")
    (folder,) = (tmp_path / "run" / "checkpoints" / "latest").iterdir()
    for path in folder.glob("params/**/d/*"):
        path.write_bytes(path.read_bytes()[:10])
    config.epochs = 2
    with pytest.raises(
        InputError, match=rf"checkpoint {folder} is damaged: .*there is also best \(step 7\)"
    ):
        train(config, tmp_path / "run")


@pytest.mark.parametrize(
    "damage", ["missing params", "missing file", "truncated", "flipped bit", "position"]
)
def test_the_checkpoint_before_a_damaged_one_restores(make_config, tmp_path, capsys, damage):
    config = make_config("jigsaw,small_net")
    train(config, tmp_path / "undisturbed")
    shutil.copytree(tmp_path / "undisturbed", tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "latest" / "14"
    if damage == "missing params":
        shutil.rmtree(newest / "params")
    largest = max(newest.rglob("optimizer/**/d/*"), key=lambda path: path.stat().st_size)
    if damage == "missing file":
        largest.unlink()
    if damage == "truncated":
        largest.write_bytes(largest.read_bytes()[:1000])
    data = newest / "data/metadata"
    if damage == "flipped bit":
        data.write_text(data.read_text().replace("448", "449"))
    if damage == "position":
        data.write_text(data.read_text().replace("448", '"448"'))
        checksums.write(newest)
    config.epochs = 3
    for folder in ("undisturbed", "run"):
        train(config, tmp_path / folder)
    said = capsys.readouterr().err
    assert f"checkpoint {newest} is damaged" in said
    assert re.search(r"there is also best .*, latest \(step 7\); continuing from step 7", said)
    assert (tmp_path / "run/checkpoints/damaged/14").is_dir()
    assert same(tmp_path / "run", tmp_path / "undisturbed")


def test_validating_less_often(make_config, tmp_path):
    config = make_config("classification,small_net")
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
    with pytest.raises(InputError, match="ended and was validated after epoch 5; .*every 2 epoc"):
        train(config, tmp_path / "twice")


def test_caching_images_and_continuing_without_changes_nothing(make_config, pretext_run, tmp_path):
    config = make_config("jigsaw")
    config.data.cache, config.epochs = "ram", 1
    train(config, tmp_path / "run")
    config.data.cache, config.epochs = "", 2
    train(config, tmp_path / "run")
    assert untimed(read_metrics(tmp_path / "run")) == untimed(read_metrics(pretext_run))


def test_a_folder_with_weights_alone_is_not_trained_in(make_config, pretext_run, tmp_path):
    shutil.copytree(pretext_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/latest")
    with pytest.raises(InputError, match="holds weights but no state to continue from"):
        train(make_config("jigsaw"), tmp_path / "run")
    assert list((tmp_path / "run/checkpoints/best").iterdir())


def test_two_processes_in_one_folder_are_refused(make_config, tmp_path):
    config = make_config("jigsaw,small_net")
    config.epochs = 1
    train(config, tmp_path / "run")
    config.epochs = 2
    with (
        lock(tmp_path / "run" / ".lock", ""),
        pytest.raises(InputError, match="another process is training in .*/run"),
    ):
        train(config, tmp_path / "run")
    train(config, tmp_path / "run")


def test_going_on_with_fewer_epochs_is_refused(make_config, pretext_run):
    config = make_config("jigsaw")
    config.epochs = 1
    with pytest.raises(
        InputError, match="epochs: 1 epochs end at step 7, but .* is at step 14 already"
    ):
        train(config, pretext_run)


def test_training_goes_on_while_the_best_checkpoint_is_written(make_config, tmp_path, monkeypatch):
    """And the next latest one waits for it, because its weights are gone by then."""
    config = make_config("classification,small_net")
    config.log_every_steps, config.epochs = 1, 2
    reached, read_back = [], checkpoint_files.read_back

    def slow(item):
        if not reached and "best" in str(item) and item.name.startswith("params"):
            step, end = int(item.parent.name.partition(".")[0]), time.monotonic() + 30
            while read_metrics(tmp_path)[-1]["step"] < step + 5 and time.monotonic() < end:
                time.sleep(0.01)
            reached.append(read_metrics(tmp_path)[-1]["step"] - step)
            assert SavedCheckpoints(tmp_path).step("latest") in (None, step)
        read_back(item)

    monkeypatch.setattr(checkpoint_files, "read_back", slow)
    train(config, tmp_path)
    assert reached[0] >= 5  # the second one is written at the end


def test_a_best_checkpoint_that_was_not_completed_is_written_again(make_config, tmp_path):
    config = make_config("classification,small_net")
    train(config, tmp_path / "undisturbed")
    config.epochs = 1
    train(config, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/best/7")
    config.epochs = 2
    train(config, tmp_path / "run")
    assert same(tmp_path / "run", tmp_path / "undisturbed")


def test_epochs_may_change_only_if_nothing_depends_on_their_number(make_config, tmp_path):
    config = make_config("classification,small_net")
    config.schedule.name, config.epochs = "cosine", 1
    train(config, tmp_path)
    config.epochs = 2
    with pytest.raises(InputError, match=r"other settings \(epochs 1 → 2\)"):
        train(config, tmp_path)


def test_a_run_of_another_format_is_refused_with_a_line(pretext_run, tmp_path):
    shutil.copytree(pretext_run, tmp_path / "run")
    path = tmp_path / "run/config.json"
    config = json.loads(path.read_text())
    for found in (None, 0, 99):
        path.write_text(json.dumps({**config, "format": found}))
        with pytest.raises(InputError, match=f"has format {found}, this version .* reads format 1"):
            load_run(tmp_path / "run")
