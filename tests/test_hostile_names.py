"""Names that are HTML, formulas or paths: on the page they are text, and no file gets them."""

from __future__ import annotations

import html.parser
import json
import pathlib

import numpy as np
import pytest

from ssljax import arm_config, setting_config, study
from ssljax.files.packed_bits import packed
from ssljax.report import document, feature_sample, study_page, what_features_see
from ssljax.report.thumbnails import Sheet, Thumbnail
from ssljax.runs.saved_evaluations import SavedEvaluation
from ssljax.settings import config_files
from ssljax.settings.errors import InputError
from ssljax.settings.printable import printable
from ssljax.studies import outcomes, results
from ssljax.studies.plan import Cell
from tests import hostile
from tests.conftest import REPOSITORY
from tests.hostile import MARKUP

pytestmark = pytest.mark.quick


class Tags(html.parser.HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {key for key, _ in attrs}

    def handle_data(self, data):
        self.text.append(data)


def outcome(folder, name: str):
    metrics = {name: 0.5, "loss": 1.0, "top1": 0.5}
    rows = [
        {"epoch": epoch, **metrics, **{f"train_{metric}": 1.0 for metric in metrics}}
        for epoch in (1, 2)
    ]
    test = SavedEvaluation(
        name, name, "best", 1, 4, metrics, metrics, metrics, [name, f"{name}2"],
        confusion=[[1, 1], [0, 2]], hits=packed(np.array([True, False, True, True])),
    )  # fmt: skip
    (folder / "environment.json").write_text(json.dumps([{"command": name}]))
    return outcomes.Outcome(folder, test, rows)


def page_of(name: str, folder: pathlib.Path) -> str:
    """A study's page in which everything has this name."""
    config = config_files.load(f"{REPOSITORY}/tests/tiny_study.py")
    config.classification.data.dataset = config.published.dataset = name
    config.published.source = name
    config.published[name] = {"top1": 0.5, name: 0.5}
    config.pretexts = {name: config.pretexts.puzzle}
    config.arms = {
        name: arm_config(name, name),
        "random": arm_config("random"),
        f"{name}2": arm_config(name),
    }
    config.arms[name].axes[name] = 1
    config.settings = {name: setting_config(), "other": setting_config()}
    failure = outcomes.Failure(folder / f"a{name}".replace("/", ""), name)
    done = {
        Cell(arm, fraction, setting): [outcome(folder, name)]
        for arm in (name, "random")
        for fraction in (1.0, 0.5)
        for setting in (name, "other")
    }
    done[Cell(f"{name}2", 1.0, name)] = [failure]
    pretexts = {name: [outcome(folder, name)], "failed": [failure]}
    collected = results.collect(config, pretexts, done)
    pixels = np.zeros((8, 8, 3), np.uint8)
    sheet = Sheet(name, name, [[Thumbnail(pixels, name, True)]])
    sample = feature_sample.Sample(
        np.zeros((12, 36, 36, 3), np.uint8), np.arange(12) % 2, (name, f"{name}2"),
        np.eye(12, dtype=np.float32),
    )  # fmt: skip
    features = what_features_see.section([(name, sample), ("random weights", sample)])
    collected["remarks"] = [name]
    return study_page.render(
        collected, results.confusions(collected, done), [sheet], features=features
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [(MARKUP, MARKUP), (hostile.INVISIBLE, printable(hostile.INVISIBLE)), (hostile.LONG, "longx")],
    ids=["markup", "invisible", "long"],
)
def test_the_page_shows_every_name_as_text(tmp_path, name, shown):
    text = page_of(name, tmp_path)
    assert text.count(document.script()) == 1
    found = Tags(text.replace(document.script(), ""))
    assert "script" not in found.tags
    assert not [attribute for attribute in found.attributes if attribute.startswith("on")]
    assert sum(shown in part for part in found.text) > 20
    assert text.count("<b>") == text.count("</b>")
    assert not hostile.acting(text)


@pytest.mark.parametrize(
    ("group", "name"),
    [
        *[(group, "a/b") for group in ("pretexts", "arms", "settings")],
        ("arms", "/etc"), ("arms", ""), ("arms", "_x"), ("arms", " x"), ("arms", "<b>"),
        ("arms", "a\nb"), ("arms", "x" * 51), ("settings", "a,b"), ("pretexts", "random"),
    ],
)  # fmt: skip
def test_names_that_become_folders_are_checked(tmp_path, monkeypatch, group, name):
    monkeypatch.chdir(REPOSITORY)
    config = config_files.load(f"{REPOSITORY}/tests/tiny_study.py")
    entry = {
        "pretexts": config.pretexts.puzzle, "arms": arm_config(), "settings": setting_config(),
    }[group]  # fmt: skip
    config[group][name] = entry
    with pytest.raises(InputError, match=rf"^{group}: .* cannot be a name"):
        study(config, tmp_path / "study")
    assert not (tmp_path / "study").exists()
