"""The commands as processes of their own, on one device."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ssljax.runs.metrics_log import read_metrics
from tests.commands import run
from tests.conftest import REPOSITORY
from tests.kills import ENVIRONMENT

ENTRY_POINTS = ["train", "evaluate", "study", "predict", "weights", "compile", "prepare", "preview"]


def command(*arguments: str) -> list[str]:
    module, *rest = arguments
    return [sys.executable, "-m", f"ssljax.{module}", *rest]


@pytest.mark.parametrize("module", ENTRY_POINTS)
def test_help_explains_and_needs_no_jax(module):
    code = (
        f"import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('ssljax.{module}', run_name='__main__')\n"
        "finally: assert not {'jax', 'tensorflow_datasets', 'grain'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    assert f"usage: python -m ssljax.{module}" in done.stdout


@pytest.mark.quick
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train"], "--config is missing"),
        (["train", "--config=configs/jigsaw.py"], "--workdir is missing"),
        (["train", "--workdir=x", "--config=configs/jigsow.py"],
         "did you mean 'configs/jigsaw.py'"),
        (["train", "--workdir=x", "--config=configs/jigsaw.py:5x5"], "5x5 is not one of 2x2, 3x3"),
        (["train", "--workdir=x", "--config=configs/jigsaw.py", "--config.epoch=3"],
         "unknown key epoch: did you mean 'epochs'?"),
        (["train", "--workdir=x", "--config=configs/jigsaw.py", "--config.optimizer.weight=3"],
         "unknown key optimizer.weight: did you mean 'weight_decay'?"),
        (["train", "--workdir=x", "--config", "configs/jigsaw.py", "--config.epoch=3"],
         "unknown key epoch: did you mean 'epochs'?"),
        (["train", "--workdir=x", "--config=/nowhere/jigsaw.py"], "no file /nowhere/jigsaw.py"),
        (["train", "--workdir=x", "--config=configs/jigsaw.py", "--config.epochs.x=3"],
         "unknown key epochs.x: the key before it is a value"),
        (["train", "--workdir=x", "--config=configs/jigsaw.py", "--config.epochs=many"],
         "--config.epochs=many: invalid literal"),
        (["train", "--workdir=x", "--config.epochs=3"], "--config=FILE is missing"),
        (["train", "--workdri=x", "--config=configs/jigsaw.py"], "did you mean '--workdir'"),
        (["train", "--workdir=x", "--config=configs/jigsaw.py", "run"],
         "unexpected argument 'run'"),
        (["train", "--workdir=x", "--config=configs/jigsaw.py", "--config.data.data_dir=/none"],
         "no data set 'deep_fashion/slides' is prepared in /none"),
        (["evaluate", "--workdir=tests"], "tests is not a run folder"),
        (["predict", "--workdir=tests"], "no IMAGE given"),
        (["compile", "--config=configs/jigsaw.py", "--topology=v5e:3x4"],
         "--topology: 'v5e:3x4' is not a known CHIP:SHAPE; known are v5e: 1x1, 2x2, 2x4, 4x4"),
        (["compile", "--config=configs/jigsaw.py", "--topology=v9"],
         "known are v4: 1x1x1, 2x2x1"),
        (["compile", "--config=configs/jigsaw.py", "--config.parallelism=pmap"],
         "parallelism: pmap cannot be compiled ahead of time; use jit"),
        (["train", "--workdir=x", "--config=configs/pretrain.py:method=jigsew"],
         "method=jigsew: unknown; did you mean 'jigsaw'?"),
        (["train", "--workdir=x", "--config=configs/jigsaw.py", "--config.model.name=alexnett"],
         "model.name: unknown model 'alexnett'; did you mean 'alexnet'"),
        (["train", "--workdir=x", "--config=configs/jigsaw.py", "--config.model.width=-1"],
         "model.width must be > 0, got -1.0"),
        (["train", "--workdir=x", "--config=configs/jigsaw.py", "--plugin=no_such_module"],
         "--plugin: no_such_module cannot be imported: ModuleNotFoundError"),
        (["prepare"], "--source is missing"),
        (["prepare", "--source=/none", "--data_dir=/none"], "--source: there is no /none"),
    ],
)  # fmt: skip
def test_a_users_mistake_ends_in_one_line_and_code_2(arguments, said):
    done = run(*arguments, code=2)
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (REPOSITORY / "x").exists()


@pytest.mark.quick
def test_the_list_of_commands_and_the_version():
    text = subprocess.run(
        [sys.executable, "-m", "ssljax"], capture_output=True, text=True, check=True
    ).stdout
    assert all(f"  {name} " in text for name in ENTRY_POINTS)
    version = [sys.executable, "-m", "ssljax", "--version"]
    assert subprocess.run(version, capture_output=True, text=True).stdout == "ssljax 0.1.0\n"
    wrong = subprocess.run([sys.executable, "-m", "ssljax", "x"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "unexpected argument 'x'" in wrong.stderr


def test_a_method_and_a_model_of_the_users_own(data_dir, tmp_path):
    """They train, resume, are evaluated, and other runs start from them."""
    flags = [f"--config.data.data_dir={data_dir}", "--plugin=tests.plugin", "--config.epochs=1"]
    folder = f"--workdir={tmp_path / 'run'}"
    done = run(
        "train", "--config=tests/tiny.py:jigsaw", folder, *flags, "--config.method.name=follow",
        "--config.model.name", "small_net", "--config.method.queue=40", "--config.data.workers=1",
    )  # fmt: skip
    assert "width=0.0625 is left out" in done.stderr
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["method"] == {"name": "follow", "queue": 40}
    assert config["model"]["width"] == 8
    assert "size" in run("evaluate", folder, "--plugin=tests.plugin").stdout
    said = run("evaluate", folder, code=2).stderr
    assert "unknown method 'follow'" in said
    assert "--plugin=MODULE" in said
    run(
        "train", "--config=tests/tiny.py:classification,small_net", *flags,
        f"--workdir={tmp_path / 'next'}", f"--config.init_from={tmp_path / 'run'}",
    )  # fmt: skip


def test_a_run_goes_on_with_another_number_of_devices(pretext_run, data_dir, tmp_path):
    """From one device to four; after the first epoch everything is equal to within rounding."""
    arguments = [
        "train", "--config=tests/tiny.py:jigsaw", f"--workdir={tmp_path / 'run'}",
        f"--config.data.data_dir={data_dir}",
    ]  # fmt: skip
    one = {**ENVIRONMENT, "JAX_NUM_CPU_DEVICES": "1"}
    subprocess.run(command(*arguments, "--config.epochs=1"), cwd=REPOSITORY, env=one, check=True)
    four = {**ENVIRONMENT, "JAX_NUM_CPU_DEVICES": "4"}
    subprocess.run(command(*arguments), cwd=REPOSITORY, env=four, check=True)
    starts = json.loads((tmp_path / "run/environment.json").read_text())
    assert [len(start["devices"]) for start in starts] == [1, 4]
    for got, expected in zip(
        read_metrics(tmp_path / "run"), read_metrics(pretext_run), strict=True
    ):
        assert got["step"] == expected["step"]
        assert got["loss"] == pytest.approx(expected["loss"], rel=1e-3)


def test_from_deep_fashions_folder_to_a_prediction(tmp_path):
    """Prepare, AlexNet at 227 pixels with both methods, evaluate, predict."""
    from tests.deep_fashion_folder import write_folder

    write_folder(tmp_path / "source", images=60, longest=300)
    data = f"--data_dir={tmp_path / 'tfds'}"
    source = f"--source={tmp_path / 'source'}"
    table = run("prepare", source, data).stdout
    assert "pretext_train               24        4" in table
    again = run("prepare", source, data).stdout
    assert "is prepared already" in again

    settings = [
        f"--config.data.data_dir={tmp_path / 'tfds'}", "--config.epochs=1", "--config.batch_size=8",
        "--config.model.width=0.25", "--config.probes.map_images=0",
    ]  # fmt: skip
    pretext, downstream = tmp_path / "pretext", tmp_path / "downstream"
    run("train", "--config=configs/jigsaw.py:3x3", f"--workdir={pretext}", *settings)
    done = run(
        "train", "--config=configs/classification.py", f"--workdir={downstream}", *settings,
        f"--config.init_from={pretext}", "--config.init_layers=backbone",
    )  # fmt: skip
    assert "fc7/kernel" in done.stderr.split("fresh")[0]
    assert "fresh    head/bias, head/kernel" in done.stderr
    table = run("evaluate", f"--workdir={downstream}").stdout
    assert "4 examples, best checkpoint" in table
    image = str(tmp_path / "source/Img/img/Some_Tee/img_00000060.jpg")
    assert image in run("predict", f"--workdir={downstream}", image).stdout
    assert "tiles_placed" in run("evaluate", f"--workdir={pretext}").stdout
