from __future__ import annotations

import collections
import html.parser
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys

import pytest

from ssljax import arm_config, load_config, setting_config, study, train
from ssljax.runs.metrics_log import read_metrics
from ssljax.settings.errors import InputError, Interrupted
from ssljax.studies import labels_worth, preflight
from ssljax.studies.config import complete_study
from ssljax.studies.results import best, chosen
from tests.conftest import REPOSITORY


@pytest.fixture
def config(data_dir):
    return load_config(
        f"{REPOSITORY}/tests/tiny_study.py",
        pretexts__puzzle__data__data_dir=data_dir,
        classification__data__data_dir=data_dir,
    )


@pytest.fixture
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


class Page(html.parser.HTMLParser):
    """Collects what the page refers to, its text, and whether its tags close."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.words, self.open = [], [], []
        self.images = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "path", "use", "rect", "br"):
            self.open.append(tag)
        self.images += tag == "img"
        for key, value in attrs:
            if key in ("src", "href", "xlink:href"):
                self.links.append(value)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        self.words.append(data)


def test_a_study_with_two_seeds_that_is_interrupted_and_goes_on(
    in_repository, config, tmp_path, monkeypatch
):
    config.seeds, config.classification.seed, config.pretexts.puzzle.seed = 2, 3, 5
    module = sys.modules["ssljax.study"]  # ssljax.study is the function
    real, calls = module._train_and_evaluate, []

    def interrupted(run, folder):
        calls.append(folder.name)
        if len(calls) == 3:
            raise Interrupted(2, "as by Ctrl-C")
        return real(run, folder)

    monkeypatch.setattr(module, "_train_and_evaluate", interrupted)
    with pytest.raises(Interrupted):
        study(config, tmp_path)
    assert calls == ["pretext-puzzle", "arm-random", "arm-puzzle"]
    monkeypatch.setattr(module, "_train_and_evaluate", real)
    finished = tmp_path / "seed-0" / "arm-random" / "metrics.jsonl"
    before = os.stat(finished).st_size
    results = study(config, tmp_path)
    assert os.stat(finished).st_size == before

    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert list(results["arms"]) == ["random", "puzzle"]  # imagenet needs a file of weights
    assert results["seeds"] == [3, 4]
    for first, summaries in ((3, results["arms"].values()), (5, results["pretexts"].values())):
        for summary in map(chosen, summaries) if first == 3 else summaries:
            assert [run["seed"] for run in summary["runs"]] == [first, first + 1]
            for run in summary["runs"]:
                recorded = json.loads((pathlib.Path(run["folder"]) / "config.json").read_text())
                assert recorded["seed"] == run["seed"]
    for arm in results["arms"].values():
        summary = chosen(arm)
        tests = [run["test"]["top1"] for run in summary["runs"]]
        assert summary["mean"]["top1"] == statistics.mean(tests)
        assert summary["std"]["top1"] == statistics.stdev(tests)
        assert [curve["epochs"] for curve in summary["curves"]] == [[1, 2], [1, 2]]
    firsts = [
        json.loads(
            (tmp_path / f"seed-{seed}/pretext-puzzle/metrics.jsonl").read_text().split("\n")[0]
        )
        for seed in (0, 1)
    ]
    assert firsts[0]["loss"] != firsts[1]["loss"]  # seeds repeat the pretext task, too

    html_page = Page((tmp_path / "report.html").read_text())
    assert html_page.open == []
    assert html_page.images >= 3 * 6 + 8
    assert all(
        link.startswith(("data:image/", "#")) or (tmp_path / link).is_file()
        for link in html_page.links
    )
    text = " ".join(html_page.words)
    for said in ("52.2", "47.4", "puzzle ends", "2 seeds", "of 4 right", "chance", "a talk", "±"):
        assert said in text, said


def test_two_processes_share_the_runs(data_dir, tmp_path):
    arguments = [
        sys.executable, "-m", "ssljax.study", "--config=tests/tiny_study.py",
        f"--workdir={tmp_path}", f"--config.pretexts.puzzle.data.data_dir={data_dir}",
        f"--config.classification.data.data_dir={data_dir}",
    ]  # fmt: skip
    processes = [
        subprocess.Popen(arguments, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
    for name in ("pretext-puzzle", "arm-puzzle", "arm-random"):
        rows = read_metrics(tmp_path / "seed-0" / name)
        assert [row["step"] for row in rows if row["kind"] == "validation"] == [7, 14]
    assert (tmp_path / "report.html").exists()


def test_parts_that_are_put_together_are_the_study(in_repository, config, tmp_path):
    with pytest.raises(InputError, match="--only: 'puzle' is no pretext task .*'puzzle'"):
        study(config, tmp_path, only=("puzle",))
    with pytest.raises(InputError, match="--seed must be >= 0 and < seeds=1, got 1"):
        study(config, tmp_path, seed=1)
    one, other = tmp_path / "one", tmp_path / "other"
    assert study(config, one, only=("random",), seed=0) == {}
    assert [path.name for path in (one / "seed-0").glob("[!.]*")] == ["arm-random"]
    assert study(config, other, only=("puzzle",)) == {}
    assert not (other / "report.html").exists()
    (one / "seed-0/arm-random").rename(other / "seed-0/arm-random")
    steps = {path: path.stat().st_mtime_ns for path in other.glob("seed-0/*/checkpoints/*/*")}
    results = study(config, other)
    assert list(results["arms"]) == ["random", "puzzle"]
    assert steps == {
        path: path.stat().st_mtime_ns for path in other.glob("seed-0/*/checkpoints/*/*")
    }


def test_a_report_of_the_parts_that_are_finished(in_repository, config, tmp_path):
    config.unlock().seeds = 2
    config.probes, config.label_fractions = ("knn",), (1.0,)
    with pytest.raises(InputError, match="--report_only is about the whole study"):
        study(config, tmp_path, seed=0, report_only=True)
    with pytest.raises(InputError, match="no run of an arm is finished"):
        study(config, tmp_path, report_only=True)
    assert not list(tmp_path.iterdir())

    study(config, tmp_path, seed=0)
    study(config, tmp_path, only=("random",), seed=1)
    before = sorted(tmp_path.glob("*/*"))
    results = study(config, tmp_path, report_only=True)
    assert sorted(tmp_path.glob("*/*")) == before
    assert results["missing"] == ["seed-1/pretext-puzzle", "seed-1/arm-puzzle"]
    assert not results["failures"]
    counts = {name: len(chosen(arm)["runs"]) for name, arm in results["arms"].items()}
    assert counts == {"random": 2, "puzzle": 1}
    assert {row["seeds"] for row in results["differences"]} == {1}
    text = " ".join(Page((tmp_path / "report.html").read_text()).words)
    for said in ("2 runs are not finished", "seed-1/arm-puzzle", "(one seed"):
        assert said in text, said

    whole = study(config, tmp_path)
    assert whole["missing"] == []
    assert study(config, tmp_path, report_only=True) == whole
    (tmp_path / "seed-0/pretext-puzzle/probes.json").unlink()
    next(tmp_path.glob("seed-1/arm-random/evaluation/*.json")).unlink()
    log = tmp_path / "seed-0/arm-puzzle/metrics.jsonl"  # of a run that goes on
    rows = log.read_text().splitlines(keepends=True)
    log.write_text("".join(rows[:-1]))
    missing = ["seed-0/pretext-puzzle", "seed-0/arm-puzzle", "seed-1/arm-random"]
    assert study(config, tmp_path, report_only=True)["missing"] == missing
    config.classification.optimizer.learning_rate = 0.5
    with pytest.raises(InputError, match="arm-random holds a run with other settings"):
        study(config, tmp_path, report_only=True)


def test_a_report_refuses_arms_that_started_from_other_weights(in_repository, config, tmp_path):
    del config.unlock().arms.random, config.arms.imagenet
    study(config, tmp_path)
    config.pretexts.puzzle.optimizer.learning_rate *= 2
    shutil.rmtree(tmp_path / "seed-0/pretext-puzzle")
    train(config.pretexts.puzzle, tmp_path / "seed-0/pretext-puzzle")
    with pytest.raises(InputError, match="arm-puzzle was started from .* holds other weights"):
        study(config, tmp_path, report_only=True)


def test_data_is_checked_before_anything_is_trained(in_repository, config, tmp_path):
    config.classification.data.test_split = "tests"
    with pytest.raises(Exception, match="split 'tests' of fashion_mnist_10k"):
        study(config, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_arms_at_several_shares_of_the_labels_choose_on_validation_data(
    in_repository, config, tmp_path
):
    config.unlock().seeds = 2
    config.label_fractions, config.label_epochs = (1.0, 0.25), (2, 4)
    config.probes, config.probe_draws = ("knn", "linear"), 2
    config.reference_setting = "slides"
    config.settings.slides = setting_config(1e-4, 1e-3)
    config.settings.fast = setting_config(3e-3, 1e-5)
    config.arms.random.settings = ("fast",)
    config.arms.puzzle.label_fractions = (0.25,)
    config.arms.puzzle.init_layers = "backbone"
    config.arms.puzzle.axes["pretext epochs"] = 2
    config.arms.convolutions = arm_config("puzzle")
    config.arms.convolutions.label_fractions = (0.25,)
    config.arms.convolutions.settings = ("fast",)
    results = study(config, tmp_path)

    assert list(results["arms"]["random"]["labels"]) == ["1", "0.25"]
    share = results["arms"]["puzzle"]["labels"]["0.25"]
    validation = {
        name: max(summary["curves"][0]["validation"]["top1"])
        for name, summary in share["settings"].items()
    }
    assert validation[share["best"]] == max(validation.values())
    assert len(share["settings"]["slides"]["runs"]) == 2  # the first one named, and the chosen one
    assert len(share["settings"][share["best"]]["runs"]) == 2
    run = json.loads((tmp_path / "seed-1/arm-puzzle-labels-0.25-slides/config.json").read_text())
    assert run["optimizer"]["weight_decay"] == 1e-3
    assert (run["epochs"], run["schedule"]["every_epochs"]) == (4, 10)
    assert run["data"]["label_fraction"] == 0.25
    assert run["init_from"].endswith("seed-1/pretext-puzzle")
    assert list(results["arms"]["convolutions"]["labels"]["0.25"]["settings"]) == ["fast"]
    rows = results["probes"]["puzzle"]
    counts = collections.Counter(
        (row["probe"], row["label_fraction"], row["weights"], row["seed"]) for row in rows
    )
    assert counts == {
        (probe, fraction, weights, seed): (1 if fraction == 1 else 2) * (2 if probe == "knn" else 1)
        for probe in ("knn", "linear")
        for fraction in (1.0, 0.25)
        for weights in ("latest", "random")
        for seed in (0, 1)
    }
    text = " ".join(Page((tmp_path / "report.html").read_text()).words)
    assert text.count("Frozen features") == 1
    # Of the arms, by share of the labels, and by axis; of both probes.
    assert text.count("Bars: the standard error of seeds and test set.") == 3
    assert text.count("Bars: the standard deviation over seeds and draws of the labels.") == 2
    gain = 100 * (
        share["settings"][share["best"]]["mean"]["top1"]
        - best(results["arms"]["random"]["labels"]["0.25"])["mean"]["top1"]
    )
    how = f"points {'above' if gain >= 0 else 'below'} random weights"
    for said in (
        "kNN, 25 %", "linear, 100 %", "with labels, 25 %", "linear top-1 by share of the labels",
        "How many labels pretraining is worth", "with 25 %",
        "By share of the labels", "25 %", "Test top-1 by pretext epochs",
        f"puzzle ends {abs(gain):.1f} {how} in top-1 with 25 % of the labels",
        "Which differences are more than noise", "difference to random weights", "Budgets",
        "kNN top-1 by minutes of pretraining" if len(results["pretexts"]) > 1 else "Budgets",
    ):  # fmt: skip
        assert said in text, said


@pytest.mark.quick
@pytest.mark.parametrize(
    ("target", "share"),
    [
        (0.2, 0.01),
        (0.4, 0.01),
        (0.5, 0.1**1.5),
        (0.6, 0.1),
        (0.65, 0.1**0.5),
        (0.7, 1),
        (0.8, None),
    ],
)
def test_the_labels_that_random_weights_need_are_interpolated(target, share):
    found = labels_worth.needed([(0.01, 0.4), (0.1, 0.6), (1.0, 0.7)], target)
    assert found == (share and pytest.approx(share))


@pytest.mark.quick
def test_arms_are_worth_labels_of_random_weights_of_the_same_seeds():
    def arm(start, **accuracies):
        labels = {}
        for key, values in accuracies.items():
            runs = [{"seed": seed, "test": {"top1": value}} for seed, value in values.items()]
            fraction = {"few": 0.01, "some": 0.1, "all": 1.0}[key]
            labels[key] = {"fraction": fraction, "best": "", "settings": {"": {"runs": runs}}}
        return {"start": start, "labels": labels}

    arms = {
        "random": arm("random", few={0: 0.4, 1: 0.2}, some={0: 0.6, 1: 0.5, 2: 0.9}),
        "first": arm("task", few={0: 0.5}),
        "both": arm("task", few={0: 0.5, 1: 0.35, 2: 0.0}, some={1: 0.4}),
        "other": arm("task", few={2: 0.5}),
    }
    found = labels_worth.worth({"metric": "top1", "arms": arms})
    assert found["first"] == {0.01: pytest.approx(0.1**1.5)}
    assert found["both"][0.01] == pytest.approx(0.01 * 10 ** (0.125 / 0.25))
    assert found["both"][0.1] == pytest.approx(0.01 * 10 ** (0.2 / 0.3))
    assert found["other"] == {}
    arms["random"] = arm("random", few={0: 0.4})
    assert labels_worth.worth({"metric": "top1", "arms": arms}) == {}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "classification.optimizer.name",
            "adm",
            "classification: optimizer.name must be one of 'adam', 'adamw', 'sgd', 'lars', got",
        ),
        ("classification.batch_size", 30, "30 does not divide among 4 devices"),
        ("classification.model.width", 4, r"arms.puzzle: .*conv/bias is \(8,\) in the source"),
        ("classification.init_from", "x", "in a study, the arms name what they start from"),
        ("classification.data.label_fraction", 0.1, "classification.data.label_fraction must be 1"),
        ("arms.puzzle.init_layers", "convx", "arms.puzzle: init_layers: 'convx' matches no parame"),
        ("arms.puzzle.frozen_layers", "fc9", "arms.puzzle: frozen_layers: 'fc9' matches no par"),
        ("arms.puzzle.published", "pretxt", "did you mean 'pretext'"),
        ("reference_setting", "slow", "reference_setting: 'slow'; known: "),
        ("published.random.top1", 52.2, "published.random must hold metrics as shares"),
        ("published.dataset", "", "published.dataset must name the data set of these results"),
        ("arms.puzzle.settings", ("quick",), "arms.puzzle.settings: 'quick'; known: "),
        ("weights_file", "/nope.pth", "/nope.pth: no such file"),
        (
            "pretexts.puzzle.init_from",
            "/nope",
            "pretexts.puzzle: init_from: /nope is neither a run",
        ),
        (
            "classification.init_part",
            "teacher",
            r"arms.puzzle: classification.init_part: puzzle \(jigsaw\) has no teacher; use init_pa",
        ),
        ("probes", ("knn", "knn"), "probes has the same value twice"),
        ("probes", ("lin",), "probes: 'lin' is unknown; did you mean 'linear'"),
    ],
)
def test_mistakes_show_before_anything_is_trained(
    in_repository, config, tmp_path, key, value, said
):
    config.update_from_flattened_dict({key: value})
    with pytest.raises(InputError, match=said):
        study(config, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_test_images_with_labels_are_said_and_refused_by_probes(in_repository, config, capsys):
    config.classification.data.test_split = "images[100:300]"
    del config.unlock().pretexts.puzzle, config.arms.puzzle, config.arms.imagenet
    said = "100 of 200 images of .* are also in .*, which are the images with labels"
    [remark] = preflight.check(complete_study(config))
    assert re.search(said, remark)
    assert remark in capsys.readouterr().err
    config.probes = ("knn",)
    with pytest.raises(InputError, match=said):
        preflight.check(complete_study(config))
    config.probes = ("linear",)
    config.classification.data.test_split = config.classification.data.validation_split
    with pytest.raises(InputError, match="are also in .*, on which the L2 of the probe is chosen"):
        preflight.check(complete_study(config))


def test_images_that_a_pretext_saw_are_not_tested_on(in_repository, config, shared_tfds, tmp_path):
    config.classification.data.dataset = "fashion_mnist"
    config.classification.data.data_dir = shared_tfds
    config.classification.data.train_split = "train[:300]"
    config.classification.data.validation_split = "train[300:400]"
    config.classification.data.test_split = "test"
    with pytest.raises(InputError, match="which the weights were trained on"):
        study(config, tmp_path / "study")
