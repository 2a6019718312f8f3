from __future__ import annotations

import shutil

import pytest

from ssljax import config_files, tasks
from ssljax.config import check_study_config, check_train_config
from ssljax.data.prepare import prepare_deep_fashion
from ssljax.errors import InputError
from ssljax.training.loop import train
from ssljax.training.run_folder import read_metrics
from tests import golden
from tests.conftest import REPOSITORY
from tests.deep_fashion_folder import write_folder
from tests.golden import CONFIGS


def test_every_config_is_listed_here():
    assert {name.partition(":")[0] for name in CONFIGS} == {
        path.name for path in (REPOSITORY / "configs").glob("*.py")
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_passes_its_checks_and_names_all_options(name):
    config = config_files.load(f"{REPOSITORY}/configs/{name}")
    runs = [config]
    if "arms" in config:
        check_study_config(config)
        runs = [*config.pretexts.values(), config.classification]
    for run in runs:
        check_train_config(run)
        task = dict(run.task)
        assert set(tasks.options(tasks.TASKS[task.pop("name")])) == set(task)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_resolves_to_its_golden_file(name):
    assert golden.resolved(name) == golden.path(name).read_text(), "see `python -m tests.golden`"


def one_step_runs():
    """The training runs of all configs, each once, cut to one step.

    Of the full-size ones two are run as commands by tests/test_command_line.py; the study has the
    same.
    """
    runs = {}
    for name in CONFIGS:
        if name in ("jigsaw.py:3x3", "classification.py", "study.py"):
            continue
        config = config_files.load(f"{REPOSITORY}/configs/{name}")
        whole = {"": config}
        if "arms" in config:
            whole = {**config.pretexts, "classification": config.classification}
        for part, run in whole.items():
            run = run.copy_and_resolve_references()
            run.epochs = 1
            run.schedule.warmup_epochs = min(run.schedule.warmup_epochs, 1.0)
            if run.data.dataset.startswith("deep_fashion"):
                run.batch_size = 32  # the generated folder has no more pictures
            else:
                run.data.dataset = "fashion_mnist_10k"
                run.data.train_split = "images[:64]"
                run.data.validation_split = run.data.test_split = "images[64:96]"
            runs.setdefault(run.to_json(sort_keys=True), pytest.param(run, id=f"{name} {part}"))
    return list(runs.values())


@pytest.fixture(scope="module")
def deep_fashion(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deep_fashion")
    write_folder(folder / "source", images=60, longest=300)
    prepare_deep_fashion("slides", str(folder / "source"), str(folder / "tfds"))
    return str(folder / "tfds")


@pytest.mark.parametrize("config", one_step_runs())
def test_one_step_of_every_config(config, deep_fashion, data_dir, tmp_path):
    slides = config.data.dataset.startswith("deep_fashion")
    config.data.data_dir = deep_fashion if slides else data_dir
    train(config, tmp_path / "run")
    rows = read_metrics(tmp_path / "run")
    assert [(row["kind"], row["step"]) for row in rows] == [("train", 1), ("validation", 1)]
    shutil.rmtree(tmp_path / "run")  # full-size checkpoints are large


def test_the_slides_settings():
    pretext = config_files.load(f"{REPOSITORY}/configs/jigsaw.py:3x3")
    downstream = config_files.load(f"{REPOSITORY}/configs/classification.py")
    assert (pretext.task.grid, pretext.task.tile) == (3, 75)
    assert pretext.optimizer.learning_rate == 5e-4
    assert downstream.optimizer.learning_rate == 1e-4
    for config in (pretext, downstream):
        assert (config.schedule.every_epochs, config.schedule.factor) == (5, 0.3)
        assert (config.epochs, config.batch_size, config.data.image_size) == (20, 64, 227)
        assert (config.optimizer.name, config.optimizer.weight_decay) == ("adam", 1e-3)
        assert (config.model.width, config.model.dropout) == (1.0, 0.5)


def test_mistakes_in_a_study_are_named():
    config = config_files.load(f"{REPOSITORY}/tests/tiny_study.py")
    config.arms.puzzle.start = "puzzel"
    with pytest.raises(InputError, match=r"arms.puzzle.start: 'puzzel'; did you mean 'puzzle'"):
        check_study_config(config)
    config.arms.puzzle.start = "puzzle"
    config.pretexts.puzzle.epochs = 0
    with pytest.raises(InputError, match="puzzle: epochs: 0 is not above 0"):
        check_study_config(config)


def test_an_unknown_config_file_names_the_nearest():
    with pytest.raises(InputError, match=r"no file jigsew.py; did you mean 'configs/jigsaw.py'"):
        config_files.find("jigsew.py")


def test_fashion_mnist_keeps_its_sides_apart():
    config = config_files.load(f"{REPOSITORY}/configs/fashion_mnist.py")
    check_study_config(config)
    splits = {run.data.train_split for run in config.pretexts.values()}
    assert splits == {"train[:70%]", "train[:21%]", "train[:7%]"}
    data = config.classification.data
    assert (data.train_split, data.validation_split) == ("train[70%:95%]", "train[95%:]")
    assert data.test_split == "test"
