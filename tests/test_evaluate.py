from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from ssljax import load_run
from ssljax.data import images
from ssljax.data.order import record_rng
from ssljax.evaluate import describe, evaluate, save
from ssljax.files.packed_bits import unpacked
from ssljax.models.network import variables
from ssljax.runs import saved_evaluations
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from tests import commands
from tests.conftest import REPOSITORY
from tests.kills import ENVIRONMENT


def one_by_one(model, split):
    """Logits of every record of a split, each computed alone."""
    records = model.run.records(split)
    method, network = model.run.method, model.run.evaluation_network()
    apply = jax.jit(lambda pixels, draws: network.apply(
        variables(model.params, {}), method.inputs({"image": pixels, **draws}, None, train=False),
        method=method.outputs,
    ))  # fmt: skip
    outputs, labels, draws = [], [], []
    for index in range(len(records)):
        data, label = records[index]
        pixels = images.square(images.decode(data), method.image_size, None)
        draw = method.draw(record_rng(model.run.config.seed, index, None))
        outputs.append(np.asarray(apply(pixels[None], jax.tree.map(lambda x: x[None], draw)))[0])
        labels.append(label)
        draws.append(draw)
    return np.array(outputs, np.float64), np.array(labels), draws


def test_classification_equals_a_plain_loop(classification_run):
    result = evaluate(classification_run)
    save(result, classification_run)
    model = load_run(classification_run)
    outputs, labels, _ = one_by_one(model, "images[300:433]")
    assert result["examples"] == 133  # which neither 32 nor 4 devices divide
    order = np.argsort(-outputs, axis=1, kind="stable")
    for k in (1, 3, 5):
        hits = (order[:, :k] == labels[:, None]).any(axis=1)
        assert result["metrics"][f"top{k}"] == hits.mean()
    confusion = np.zeros((10, 10), int)
    for label, row in zip(labels, order, strict=True):
        confusion[label, row[0]] += 1
    np.testing.assert_array_equal(result["confusion"], confusion)
    np.testing.assert_array_equal(unpacked(result["hits"], 133), order[:, 0] == labels)
    by_class = np.diag(confusion) / confusion.sum(axis=1)
    assert result["metrics"]["class_mean"] == pytest.approx(by_class.mean(), rel=1e-12)
    for k in (1, 3, 5):  # binomial
        share = result["metrics"][f"top{k}"]
        expected = np.sqrt(share * (1 - share) / 133)
        assert result["standard_error"][f"top{k}"] == pytest.approx(expected, rel=1e-6)
    variances = by_class * (1 - by_class) / confusion.sum(axis=1)
    expected = np.sqrt(variances.sum()) / 10
    assert result["standard_error"]["class_mean"] == pytest.approx(expected, rel=1e-6)
    counts = sorted(np.bincount(labels, minlength=10), reverse=True)
    assert result["chance"]["top3"] == sum(counts[:3]) / 133

    path = classification_run / "evaluation" / f"images_300_433_-step-{result['step']}.json"
    assert json.loads(path.read_text()) == result
    assert Image.open(path.with_suffix(".png")).size[0] > 300


def test_a_pretext_run_equals_a_plain_loop(pretext_run):
    result = evaluate(pretext_run, split="images[300:350]", checkpoint="latest")
    outputs, _, draws = one_by_one(load_run(pretext_run), "images[300:350]")
    errors, placed, solved = [], [], []
    for row, draw in zip(outputs, draws, strict=True):
        target = np.array([[source // 2, source % 2] for source in draw["permutation"]]) * 2 - 1
        tiles = row.reshape(4, 2)
        errors.append(((tiles - target) ** 2).mean())
        right = (np.sign(tiles) == target).all(axis=1)
        placed.append(right.mean())
        solved.append(right.all())
    assert result["metrics"]["mse"] == pytest.approx(np.mean(errors), rel=1e-5)
    for name, values in (("mse", errors), ("tiles_placed", placed), ("puzzles_solved", solved)):
        expected = np.std(values) / np.sqrt(50)
        assert result["standard_error"][name] == pytest.approx(expected, rel=1e-3), name
    assert result["metrics"]["tiles_placed"] == np.mean(placed)
    assert result["metrics"]["puzzles_solved"] == np.mean(solved)
    assert result["chance"]["tiles_placed"] == 0.25


def test_the_table_puts_chance_beside_each_metric(classification_run):
    text = "\n".join(describe(evaluate(classification_run)))
    assert re.search(r"top3 +0\.\d{4} +0\.\d{4} +0\.\d{4}\n", text)
    assert "133 examples, best checkpoint" in text


def test_checkpoints_are_found_by_name_and_step(classification_run):
    assert evaluate(classification_run, checkpoint="14")["step"] == 14
    with pytest.raises(InputError, match=r"no checkpoint '13' in .*latest \(step 14\)"):
        evaluate(classification_run, checkpoint="13")


def test_what_is_no_run_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="is not a run folder: it has no config.json"):
        evaluate(tmp_path)
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(InputError, match="config.json is damaged"):
        evaluate(tmp_path)


def test_a_method_without_classes_or_chance_is_evaluated(make_config, tmp_path):
    config = make_config("follow,small_net")
    config.epochs = 1
    train(config, tmp_path)
    result = evaluate(tmp_path)
    assert "confusion" not in result
    assert result["chance"] == {}
    assert re.search(r"(?m)^size +0\.\d{4} +0\.\d{4}$", "\n".join(describe(result)))


def test_a_long_split_has_a_file_of_its_own(classification_run):
    parts = [f"images[{start}:{start + 2}]" for start in range(300, 400, 2)]
    paths = []
    for split in ("+".join(parts), "+".join(parts[:-1])):
        result = evaluate(classification_run, split)
        save(result, classification_run)
        paths.append(saved_evaluations.path(classification_run, split, result["step"]))
        assert json.loads(paths[-1].read_text()) == result
    assert paths[0] != paths[1]


def test_a_result_that_cannot_be_saved_is_shown_and_one_that_cannot_be_shown_is_saved(
    pretext_run, tmp_path
):
    run = shutil.copytree(pretext_run, tmp_path / "run", ignore=lambda *_: ["evaluation"])
    arguments = [f"--workdir={run}", "--split=images[300:340]"]
    with subprocess.Popen(
        [sys.executable, "-m", "ssljax.evaluate", *arguments],
        cwd=REPOSITORY, env=ENVIRONMENT, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        process.stdout.close()  # as of `| true`
    assert process.returncode == 0
    [saved] = (run / "evaluation").glob("*.json")
    metrics = json.loads(saved.read_text())["metrics"]
    shutil.rmtree(run / "evaluation")
    (run / "evaluation").write_text("a file in the place of the folder")
    done = commands.run("evaluate", *arguments, code=2)
    for name, value in metrics.items():
        assert re.search(rf"(?m)^{name} +{value:.4f} ", done.stdout)
    assert f"cannot write {saved}: File exists" in done.stderr.splitlines()[-1]
