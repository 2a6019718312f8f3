"""The page of a study, of a small one that is run once."""

from __future__ import annotations

import base64
import io
import json
import math
import re

import numpy as np
import pytest
import scipy.stats
from PIL import Image

from ssljax import study
from ssljax.files import storage
from ssljax.files.packed_bits import unpacked
from ssljax.report import budgets, charts, classes, curves, study_files, study_page, tables
from ssljax.report.curves import Curve
from ssljax.runs.metrics_log import read_metrics
from ssljax.runs.trained_model import load_run
from ssljax.settings import config_files
from ssljax.studies import differences
from ssljax.studies.results import chosen
from tests.conftest import REPOSITORY
from tests.test_study import Page


@pytest.fixture(scope="module")
def config(data_dir):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        config = config_files.load(f"{REPOSITORY}/tests/tiny_study.py")
        for run in (config.pretexts.puzzle, config.classification):
            run.data.data_dir = data_dir
            run.probes.map_images = 500
        config.seeds = 2
        yield config


@pytest.fixture(scope="module")
def folder(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    study(config, folder)
    return folder


@pytest.fixture
def results(folder):
    return json.loads((folder / "results.json").read_text())


def evaluation(results, arm, seed):
    run = chosen(results["arms"][arm])["runs"][seed]["folder"]
    [file] = (storage.path(run, "") / "evaluation").glob("*.json")
    return json.loads(file.read_text())


def confusions(results):
    return {
        arm: np.array([evaluation(results, arm, seed)["confusion"] for seed in (0, 1)])
        for arm in results["arms"]
    }


def test_tables_have_the_error_of_seeds_and_of_the_test_set(results):
    for arm in results["arms"]:
        tests = [evaluation(results, arm, seed)["metrics"]["top1"] for seed in (0, 1)]
        mean, spread = np.mean(tests), np.std(tests, ddof=1)
        error = np.mean([math.sqrt(p * (1 - p) / 133) for p in tests])
        cell = f"{100 * mean:.1f} ± {100 * spread:.1f} ± {100 * error:.1f}"
        assert cell in tables.arms(results), arm
    assert "± standard deviation over the seeds ± standard error of the test set" in tables.arms(
        results
    )


def test_bars_are_said_below_their_chart(results):
    assert charts.arms(results).endswith(
        '</svg>\n<p class="note">Bars: the standard error of seeds and test set.</p></div>'
    )
    results["seeds"] = [0]
    assert "Bars: the standard error of the test set." in charts.arms(results)


def test_the_verdict_has_the_interval_of_the_difference(results):
    hits = {
        arm: {seed: unpacked(evaluation(results, arm, seed)["hits"], 133) for seed in (0, 1)}
        for arm in ("puzzle", "random")
    }
    as_numbers = [{seed: row.astype(float) for seed, row in each.items()} for each in hits.values()]
    gain, low, high = differences.interval(*as_numbers)
    puzzle, random = (chosen(results["arms"][name]) for name in ("puzzle", "random"))
    assert gain == pytest.approx(puzzle["mean"]["top1"] - random["mean"]["top1"])
    noise = ", which may be noise" if low <= 0 <= high else ""
    how = "above" if gain >= 0 else "below"
    assert study_page.verdict(results) == (
        f"puzzle ends {abs(100 * gain):.1f} points {how} random weights in top-1{noise} "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f}) "
        "(2 seeds; the interval is that of seeds and test images)."
    )


def test_the_verdict_says_why_there_is_no_difference(results):
    results["differences"] = []
    said = "No arm has a share of the labels and a seed in common with random weights."
    assert study_page.verdict(results) == said
    results["arms"] = {"random": results["arms"]["random"]}
    assert study_page.verdict(results) == "Only random weights were trained."


def test_costs_are_those_of_the_log(folder, results):
    run = chosen(results["arms"]["random"])["runs"][0]["folder"]
    rows = read_metrics(run)
    budget = budgets.of_run(load_run(run), rows)
    assert budget.images == 2 * 200
    seconds, before = 0, 0
    for row in (row for row in rows if row["kind"] == "train"):
        # 7 steps of 32, the last of which has 8 images that count.
        images = sum(8 if step % 7 == 6 else 32 for step in range(before, row["step"]))
        seconds += images / row["images_per_second"] if row["images_per_second"] else 0
        before = row["step"]
    assert budget.minutes == pytest.approx(seconds / 60, rel=0.4)  # images are spread evenly
    assert budget.backbone < budget.parameters == 1530
    text = " ".join(Page((folder / "report.html").read_text()).words)
    assert "Budgets" in text
    assert f"400 {budget.minutes:.1f} {budget.backbone} 1,530" in text.replace("  ", " ")


def test_the_map_shows_all_validation_images_by_their_features(folder):
    text = (folder / "report.html").read_text()
    assert text.count('<svg class="map"') == 2  # the puzzle, and random weights
    assert text.count("<circle") >= 2 * 100
    assert "of 48 of the same class" in text
    run = (folder / "seed-0/arm-random/report.html").read_text()
    assert run.count('<svg class="map"') == 2


def test_a_page_whose_features_cannot_be_drawn_is_written(config, results, tmp_path, capsys):
    config = config.copy_and_resolve_references()
    config.classification.data.validation_split = "absent"
    study_files.write(config, results, confusions(results), tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert Page(text).open == []
    assert "Test accuracy" in text
    assert "A map of the features" not in text
    said = capsys.readouterr().err
    assert said.startswith("the study's page has no features: ")
    assert "absent" in said


def test_every_class_has_a_row_and_every_arm_a_matrix(folder, results):
    text = (folder / "report.html").read_text()
    matrices = re.findall(r'class="matrix" alt="[^"]*" src="data:image/png;base64,([^"]+)"', text)
    assert len(matrices) == 2
    for matrix in matrices:
        assert min(Image.open(io.BytesIO(base64.b64decode(matrix))).size) > 300
    table = classes.table(results["class_names"], confusions(results))
    assert table in text
    rows = re.findall("<tr><td>(.*?)</td>(.*?)</tr>", table)
    assert [name for name, _ in rows] == results["class_names"]
    runs = confusions(results)["puzzle"]
    images = runs[0].sum(axis=1)
    for index, (_, cells) in enumerate(rows):
        assert f"{images[index]}</td>" in cells
        assert f"{100 * runs[:, index, index].mean() / images[index]:.1f} (" in cells


@pytest.mark.parametrize(("right", "images"), [(0, 188), (3, 7), (150, 150)])
def test_the_interval_of_a_class_is_wilsons(right, images):
    result = scipy.stats.binomtest(right, images).proportion_ci(method="wilson")
    assert classes.interval(right / images, images) == pytest.approx(result, abs=1e-4)


def test_puzzles_that_failed_are_beside_those_solved(folder, results, config):
    model = load_run(results["pretexts"]["puzzle"]["runs"][0]["folder"])
    text = (folder / "report.html").read_text()
    captions = re.findall(r"<figcaption>(\d) of 4 right", text)
    solved = captions.count("4")
    assert 0 < solved < len(captions)
    assert captions == sorted(captions, key=lambda right: right != "4")
    assert model.run.method.num_tiles == 4


def test_published_results_are_those_of_the_study_s_data_set(folder, config, results):
    assert "52.2" in tables.arms(results)
    assert "a talk" in tables.arms(results)
    other = config.copy_and_resolve_references()
    other.published.dataset = "deep_fashion/slides"
    text = tables.arms(study(other, folder))
    for said in ("52.2", "47.4", "a talk", "published"):
        assert said not in text, said


def test_the_page_is_small_and_whole(folder):
    text = (folder / "report.html").read_text()
    assert len(text) < 600_000
    parsed = Page(text)
    assert parsed.open == []
    own = [link for link in parsed.links if not link.startswith(("data:image/", "#"))]
    assert sorted(own) == [
        f"seed-{seed}/{run}/report.html"
        for seed in (0, 1)
        for run in ("arm-puzzle", "arm-random", "pretext-puzzle")
    ]
    for link in own:
        page = Page((folder / link).read_text())
        assert page.open == []
        assert all(link.startswith(("data:image/", "#")) for link in page.links)


def test_a_thousand_classes_make_a_page_that_can_be_read(results):
    names = [f"class {index}" for index in range(1000)]
    runs = np.random.default_rng(0).poisson(0.1, (1, 1000, 1000)) + np.eye(1000, dtype=int)
    text = classes.section({"class_names": names}, {"random": runs})
    assert len(text) < 1_000_000
    assert text.count("<tr>") == 101 + 7  # and the six pairs that are confused most
    assert "The 100 most frequent of 1,000 classes." in text
    assert "<details open" not in text


def test_more_curves_than_colours_differ_and_the_legend_is_below_them():
    def height(count):
        lines = [Curve(f"curve {index}", [1, 2, 3], [0, 1, index], index) for index in range(count)]
        text = curves.draw(lines, "title", "unit")
        assert all(f"curve {index}<" in text for index in range(count))
        drawn = re.findall(r'<path d="[^"]*" clip-path[^>]*style="([^"]*)"', text)
        strokes = {style for style in drawn if "var(--curve-" in style}
        assert len(strokes) == count
        return float(re.search(r'height="([0-9.]+)pt"', text)[1])

    assert height(6) == height(2)
    assert height(16) > height(8) > height(6)
