from __future__ import annotations

import html.parser
import json
import os
import statistics

import pytest

from ssljax import config_files, study
from ssljax.errors import Interrupted
from tests.conftest import REPOSITORY


@pytest.fixture
def config(data_dir):
    config = config_files.load(f"{REPOSITORY}/tests/tiny_study.py")
    for run in (config.pretexts.puzzle, config.classification):
        run.data.data_dir = data_dir
    return config


@pytest.fixture
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


class Page(html.parser.HTMLParser):
    """Collects what the page refers to, its text, and whether its tags close."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.words, self.open = [], [], []
        self.pictures = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "path", "use", "rect", "br"):
            self.open.append(tag)
        self.pictures += tag == "img"
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
    config.seeds = 2
    real, calls = study._run, []

    def interrupted(run, folder):
        calls.append(folder.name)
        if len(calls) == 3:
            raise Interrupted(2, "as by Ctrl-C")
        return real(run, folder)

    monkeypatch.setattr(study, "_run", interrupted)
    with pytest.raises(Interrupted):
        study.study(config, tmp_path)
    assert calls == ["pretext-puzzle", "arm-random", "arm-puzzle"]
    monkeypatch.setattr(study, "_run", real)
    finished = tmp_path / "seed-0" / "arm-random" / "metrics.jsonl"
    before = os.stat(finished).st_size
    results = study.study(config, tmp_path)
    assert os.stat(finished).st_size == before

    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert list(results["arms"]) == ["random", "puzzle"]  # imagenet needs a file of weights
    assert results["seeds"] == [0, 1]
    for arm in results["arms"].values():
        tests = [run["test"]["top1"] for run in arm["runs"]]
        assert arm["mean"]["top1"] == statistics.mean(tests)
        assert arm["std"]["top1"] == statistics.stdev(tests)
        assert [curve["epochs"] for curve in arm["curves"]] == [[1, 2], [1, 2]]
    firsts = [
        json.loads(
            (tmp_path / f"seed-{seed}/pretext-puzzle/metrics.jsonl").read_text().split("\n")[0]
        )
        for seed in (0, 1)
    ]
    assert firsts[0]["loss"] != firsts[1]["loss"]  # seeds repeat the pretext task, too

    page = Page((tmp_path / "report.html").read_text())
    assert page.open == []
    assert page.pictures >= 3 * 8 + 8
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    text = " ".join(page.words)
    for said in ("52.2", "47.4", "puzzle ends", "2 seeds", "of 4 right", "guessing", "±"):
        assert said in text, said


def test_data_is_checked_before_anything_is_trained(in_repository, config, tmp_path):
    config.classification.data.test_split = "tests"
    with pytest.raises(Exception, match="split 'tests' of fashion_mnist_10k"):
        study.study(config, tmp_path / "study")
    assert not (tmp_path / "study").exists()
