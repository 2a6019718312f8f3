"""A study goes on without runs that diverge, and says what it waits for."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from ssljax import arm_config, setting_config, study
from ssljax.report import probe_tables
from ssljax.runs.metrics_log import read_metrics
from ssljax.runs.saved_evaluations import SavedEvaluation
from ssljax.settings import config_files
from ssljax.settings.errors import Diverged, InputError, TrainingFailed
from ssljax.studies.outcomes import Failure, Outcome, checked, choose, repeated
from ssljax.studies.plan import Cell
from tests import commands
from tests.conftest import REPOSITORY
from tests.test_study import Page

WILD = 1e30  # a learning rate with which every run diverges


@pytest.fixture
def config(data_dir, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    config = config_files.load(f"{REPOSITORY}/tests/tiny_study.py")
    for run in (config.pretexts.puzzle, config.classification):
        run.data.data_dir = data_dir
    del config.arms.imagenet
    return config


def test_a_setting_a_pretext_and_its_arm_fail_and_the_others_go_on(config, tmp_path, capsys):
    config.settings.calm = setting_config(1e-3, 1e-5)
    config.settings.wild = setting_config(WILD, 1e-5)
    config.reference_setting = "wild"
    config.pretexts.broken = config.pretexts.puzzle.copy_and_resolve_references()
    config.pretexts.broken.optimizer.learning_rate = WILD
    config.arms.broken = arm_config("broken")
    config.probes = ("knn",)
    results = study(config, tmp_path)

    assert {failure["run"] for failure in results["failures"]} == {
        f"seed-0/{name}"
        for name in (
            "pretext-broken", "arm-puzzle-wild", "arm-random-wild", "arm-broken-wild",
            "arm-broken-calm",
        )
    }  # fmt: skip
    assert list(results["pretexts"]) == ["puzzle"]
    assert list(results["arms"]) == ["random", "puzzle"]
    for arm in results["arms"].values():
        share = arm["labels"]["1"]
        assert (share["best"], list(share["settings"])) == ("calm", ["calm"])
    # Random weights are probed with the other run, though this one comes first.
    [row] = [row for row in results["differences"] if row["protocol"] == "knn"]
    assert (row["name"], row["against"], row["is_floor"]) == ("puzzle", "random", True)
    assert study(config, tmp_path, report_only=True) == results
    text = " ".join(Page((tmp_path / "report.html").read_text()).words)
    for said in ("; broken failed", "Failed runs", "seed-0/arm-random-wild: the ", "failed"):
        assert said in text, said

    rows = {path: len(read_metrics(path.parent)) for path in tmp_path.glob("*/*/failed.json")}
    assert len(rows) == 3  # those that were not trained for want of a start have no folder
    capsys.readouterr()
    files = sorted(tmp_path.glob("*/arm-*/evaluation/*.json"))
    without_hits = json.loads(files[-1].read_text())
    assert without_hits.pop("hits")
    files[-1].write_text(json.dumps(without_hits))
    files[0].write_text('{"dataset": 1}')
    again = study(config, tmp_path)
    assert (again["arms"], again["failures"]) == (results["arms"], results["failures"])
    assert {path: len(read_metrics(path.parent)) for path in rows} == rows  # not trained again
    folder = tmp_path / "seed-0/arm-random-wild"
    said = capsys.readouterr().err
    assert f"remove {folder} to train it again" in said
    assert f"{files[0]} is damaged: " in said
    assert f"{files[-1].parent.parent} has no hits; it is evaluated again" in said

    config.settings.wild.learning_rate = 1e-4
    said = rf"{folder} holds a run that failed with other settings \(optimizer.learning_rate"
    with pytest.raises(InputError, match=said):
        study(config, tmp_path)


def test_random_weights_that_moved_to_another_pretext_are_one_row(config, tmp_path):
    config.seeds, config.probes = 2, ("knn",)
    config.pretexts.second = config.pretexts.puzzle.copy_and_resolve_references()
    config.pretexts.second.seed = 5  # random weights have the seed of the run that they are with
    del config.arms.puzzle
    for run in config.pretexts.values():
        run.probes.map_images = 0
    folder = tmp_path / "seed-1/pretext-puzzle"
    folder.mkdir(parents=True)
    (folder / "failed.json").write_text('{"error": "the loss is nan"}')
    results = study(config, tmp_path)
    probes = {
        name: [(row["seed"], row["weights"]) for row in rows if row["k"] == 20]
        for name, rows in results["probes"].items()
    }
    assert probes == {
        "puzzle": [(0, "latest"), (0, "random")],
        "second": [(5, "latest"), (6, "latest"), (6, "random")],
    }
    for shown in (results, json.loads((tmp_path / "results.json").read_text())):
        text = "".join(probe_tables.section(shown))
        rows = re.findall('<tr><td>(.*?)</td><td class="n">(.*?)</td>', text)
        assert rows == [("puzzle", "1"), ("second", "2"), ("random", "2")]


def outcome(top1):
    test = SavedEvaluation("", "", "best", 1, 1, {}, {}, {})
    return Outcome(
        pathlib.Path("run"), test, [{"top1": top1 / 2, "loss": 1.0}, {"top1": top1, "loss": 1.0}]
    )


def test_validations_that_are_not_finite_are_left_out():
    test = SavedEvaluation("", "", "latest", 1, 1, {"loss": 0.5, "rank": 2.0}, {}, {})
    good = {"step": 2, "epoch": 1.0, "loss": 0.5, "rank": 2.0}
    rows = [{**good, "loss": float("nan")}, good, {**good, "rank": float("inf")}]
    run = Outcome(pathlib.Path("run"), test, rows)
    assert checked(run).validation == [good]
    with pytest.raises(Diverged, match="every validation of run has NaN or infinity"):
        checked(dataclasses.replace(run, validation=rows[:1]))
    with pytest.raises(InputError, match="the validation of step 2 has no rank, got None; remove"):
        checked(dataclasses.replace(run, validation=[{**good, "rank": None}]))


def test_settings_that_failed_are_not_chosen(config):
    failure = Failure(pathlib.Path("run"), "the loss is nan")
    runs = {"a": [failure, outcome(0.9)], "b": [outcome(0.3)], "c": [outcome(0.5), failure]}
    assert choose(config, runs) == "c"
    cells = {Cell("puzzle", 1.0, name): ended for name, ended in runs.items()}
    assert repeated(config, Cell("puzzle", 1.0, "b"), cells) == {"a", "c"}
    assert choose(config, {"a": runs["a"], "d": [failure]}) == "a"
    assert choose(config, {"d": [failure]}) is None


def test_exit_code_and_last_line_say_that_a_run_failed(data_dir, tmp_path):
    (tmp_path / "failing.py").write_text(
        "from ssljax import arm_config\n"
        "from tests import tiny_study\n"
        "def get_config():\n"
        "    config = tiny_study.get_config()\n"
        f"    config.pretexts.puzzle.optimizer.learning_rate = {WILD}\n"
        "    return config\n"
    )
    done = commands.run(
        "study", f"--config={tmp_path}/failing.py", f"--workdir={tmp_path}/study",
        f"--config.pretexts.puzzle.data.data_dir={data_dir}",
        f"--config.classification.data.data_dir={data_dir}", code=1,
    )  # fmt: skip
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ssljax-study: 2 runs failed, the first: seed-0/pretext-puzzle: the ")
    assert "puzzle  failed" in done.stdout
    assert "report.html" in done.stdout.splitlines()[-1]


def test_a_study_without_any_finished_arm_ends_with_one_line(config, tmp_path):
    config.classification.optimizer.learning_rate = WILD
    with pytest.raises(TrainingFailed, match="every arm failed, the first: seed-0/arm-random: "):
        study(config, tmp_path)


def test_a_study_says_which_process_it_waits_for(data_dir, tmp_path):
    claim = tmp_path / "study/seed-0/.pretext-puzzle.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c",
         "import pathlib, sys, time\n"
         "from ssljax.runs.lock import lock\n"
         "with lock(pathlib.Path(sys.argv[1]), ''):\n"
         "    print('held', flush=True)\n"
         "    time.sleep(600)\n", str(claim)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    os.kill(holder.pid, signal.SIGSTOP)
    command = [
        sys.executable, "-m", "ssljax.study", "--config=tests/tiny_study.py",
        f"--workdir={tmp_path}/study", f"--config.pretexts.puzzle.data.data_dir={data_dir}",
        f"--config.classification.data.data_dir={data_dir}",
    ]  # fmt: skip
    waiting = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    try:
        said = next(line for line in waiting.stderr if line.startswith("waiting: "))
        assert f"trains {claim.with_name('pretext-puzzle')} (process {holder.pid} on " in said
        assert f"stopped: `kill -CONT {holder.pid}`" in said
        os.kill(holder.pid, signal.SIGCONT)
        said = next(line for line in waiting.stderr if line.startswith("waiting: "))
        assert "stopped" not in said
        holder.kill()
        assert any("pretext-puzzle  epoch 1/2" in line for line in waiting.stderr)
    finally:
        holder.kill()
        waiting.kill()
        waiting.communicate()
