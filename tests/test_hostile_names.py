"""Names that are HTML, formulas or paths: on the page they are text, and no file gets them."""

from __future__ import annotations

import html.parser
import json

import numpy as np
import pytest

from ssljax import arm_config, setting_config, study
from ssljax.files.packed_bits import packed
from ssljax.report import feature_sample, study_page, what_features_see
from ssljax.report.thumbnails import Sheet, Thumbnail
from ssljax.runs.saved_evaluations import SavedEvaluation
from ssljax.settings import config_files
from ssljax.settings.errors import InputError
from ssljax.studies import outcomes, results
from ssljax.studies.plan import Cell
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.quick

HOSTILE = '</title><script>alert(\'$x_{$\')</script>"onload="x" &amp; --><b>'


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


def outcome(folder):
    metrics = {HOSTILE: 0.5, "loss": 1.0, "top1": 0.5}
    rows = [
        {"epoch": epoch, **metrics, **{f"train_{name}": 1.0 for name in metrics}}
        for epoch in (1, 2)
    ]
    test = SavedEvaluation(
        HOSTILE, HOSTILE, "best", 1, 4, metrics, metrics, metrics, [HOSTILE, f"{HOSTILE}2"],
        confusion=[[1, 1], [0, 2]], hits=packed(np.array([True, False, True, True])),
    )  # fmt: skip
    (folder / "environment.json").write_text(json.dumps([{"command": HOSTILE}]))
    return outcomes.Outcome(folder, test, rows)


def test_the_page_shows_every_name_as_text(tmp_path):
    config = config_files.load(f"{REPOSITORY}/tests/tiny_study.py")
    config.classification.data.dataset = config.published.dataset = HOSTILE
    config.published.source = HOSTILE
    config.published[HOSTILE] = {"top1": 0.5, HOSTILE: 0.5}
    config.arms = {
        HOSTILE: arm_config(HOSTILE, HOSTILE),
        "random": arm_config("random"),
        f"{HOSTILE}2": arm_config(HOSTILE),
    }
    config.arms[HOSTILE].axes[HOSTILE] = 1
    config.settings = {HOSTILE: setting_config(), "other": setting_config()}
    failure = outcomes.Failure(tmp_path / f"a{HOSTILE}".replace("/", ""), HOSTILE)
    done = {
        Cell(arm, fraction, setting): [outcome(tmp_path)]
        for arm in (HOSTILE, "random")
        for fraction in (1.0, 0.5)
        for setting in (HOSTILE, "other")
    }
    done[Cell(f"{HOSTILE}2", 1.0, HOSTILE)] = [failure]
    pretexts = {HOSTILE: [outcome(tmp_path)], "failed": [failure]}
    collected = results.collect(config, pretexts, done)
    pixels = np.zeros((8, 8, 3), np.uint8)
    sheet = Sheet(HOSTILE, HOSTILE, [[Thumbnail(pixels, HOSTILE, True)]])
    sample = feature_sample.Sample(
        np.zeros((12, 36, 36, 3), np.uint8), np.arange(12) % 2, (HOSTILE, f"{HOSTILE}2"),
        np.eye(12, dtype=np.float32),
    )  # fmt: skip
    features = what_features_see.section([(HOSTILE, sample), ("random weights", sample)])
    collected["remarks"] = [HOSTILE]
    text = study_page.render(
        collected, results.confusions(collected, done), [sheet], features=features
    )
    [_, script] = text.split("<script>")  # our own one, which has no names
    assert "alert" not in script.split("</script>")[0]
    text = text.replace(f"<script>{script.split('</script>')[0]}</script>", "")

    found = Tags(text)
    assert "script" not in found.tags
    assert not [name for name in found.attributes if name.startswith("on")]
    assert "<script" not in text
    assert sum(HOSTILE in part for part in found.text) > 20
    assert text.count("<b>") == text.count("</b>")


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
        study.study(config, tmp_path / "study")
    assert not (tmp_path / "study").exists()
