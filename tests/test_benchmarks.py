"""Tests that the benchmarks run. What they measure is not tested."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.kills import ENVIRONMENT

TORCH = importlib.util.find_spec("torch")


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def test_the_step_is_compared_with_pytorchs(tmp_path):
    table = run(
        "benchmarks.train_step", "--batch=16", "--width=0.02", "--steps=1", "--rounds=2",
        "--only=ssljax,torch_channels_last", f"--json={tmp_path / 'results.json'}",
    )  # fmt: skip
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["ratio"]) == ["ssljax"] + ["torch_channels_last"] * bool(TORCH)
    assert all(len(values) == 2 and min(values) > 0 for values in results["ratio"].values())
    assert "| ssljax | 1.00 (1.00–1.00) |" in table


def test_a_masked_step_is_measured():
    table = run(
        "benchmarks.masked_step", "--batch=4", "--size=8", "--steps=1", "--rounds=1",
        "--only=mae",
    )  # fmt: skip
    assert "| mae | 1.00 (1.00–1.00) |" in table


def test_the_loop_is_compared_with_its_step(tmp_path):
    table = run(
        "benchmarks.loop", "--method=jigsaw", "--model=alexnet", "--width=0.03", "--steps=4",
        "--batch=16", "--rounds=1", f"--folder={tmp_path}",
    )  # fmt: skip
    assert "| loop | 1.00 (1.00–1.00) |" in table
    assert "| step |" in table


@pytest.mark.skipif(not TORCH, reason="needs PyTorch")
def test_the_slides_puzzle_is_trained_in_pytorch(tmp_path):
    table = run(
        "benchmarks.slides_puzzle", "--dataset=fashion_mnist_10k", "--train_split=images[:60%]",
        "--test_split=images[80%:]", "--images=128", "--test_images=64", "--epochs=1",
        "--width=0.05", "--only=slides,lecun,gap", f"--json={tmp_path / 'results.json'}",
    )  # fmt: skip
    results = json.loads((tmp_path / "results.json").read_text())
    assert all(0.6 < results[name][0]["error"] < 1.2 for name in ("slides", "lecun", "gap"))
    assert "| lecun |" in table


@pytest.mark.skipif(not importlib.util.find_spec("skimage"), reason="needs the extra `benchmarks`")
def test_the_input_pipelines_read_every_photograph(tmp_path):
    table = run(
        "benchmarks.input_pipeline", "--images=60", "--rounds=1", f"--folder={tmp_path}",
        "--only=fast,exact_threads,kept,dataloader,bare",
    )  # fmt: skip
    assert "| fast | 1.00 (1.00–1.00) |" in table
    assert "| bare |" in table
    pieces = run("benchmarks.pieces", "--images=60", "--rounds=1", f"--folder={tmp_path}")
    assert "| batch |" in pieces


@pytest.mark.skipif(
    not (importlib.util.find_spec("skimage") and importlib.util.find_spec("lightly")),
    reason="needs the extras `benchmarks` and `reference`",
)
def test_photographs_become_views(tmp_path):
    table = run(
        "benchmarks.photograph_views", "--images=60", "--rounds=1", f"--folder={tmp_path}",
        "--only=ssljax_small,lightly_small",
    )  # fmt: skip
    assert "| ssljax_small | 1.00 (1.00–1.00) |" in table
    assert "| lightly_small |" in table


@pytest.mark.skipif(not importlib.util.find_spec("sklearn"), reason="needs the extra `reference`")
def test_probes_are_compared_with_scikit_learns():
    table = run("benchmarks.probes", "--images=500", "--rounds=1")
    assert "| linear | 1.00 (1.00–1.00) |" in table
    assert "| sklearn_knn |" in table


def test_bounds_of_methods_divide_the_cost_by_the_data_sheets(tmp_path):
    path = tmp_path / "bounds.json"
    step = {"images": 128, "flops": 197e12, "memory_bytes": 819e7}  # a second of a v5e's arithmetic
    path.write_text(json.dumps({"mae vit_base 128": {"step": step}}))
    table = run("benchmarks.method_bounds", "--only=mae", "--decoded=100", f"--json={path}")
    row = table.splitlines()[-1]
    assert "| 128 | 1539.1 | 64 | 128, arithmetic | 596, arithmetic | 643, arithmetic |" in row
    assert row.endswith("| 1.3 | 6.0 | 6.4 |")
