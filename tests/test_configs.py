from __future__ import annotations

import itertools
import pathlib
import runpy
import shutil

import pytest

from ssljax import arm_config, setting_config, train_config
from ssljax.methods import METHODS, method_defaults
from ssljax.models import MODELS
from ssljax.runs.config import check_train_config, resolve, select
from ssljax.runs.metrics_log import read_metrics
from ssljax.runs.run import open_run
from ssljax.settings import config_files
from ssljax.settings.errors import InputError
from ssljax.studies import plan, preflight
from ssljax.studies.checks import check_study_config
from ssljax.studies.config import complete_study
from ssljax.training.loop import train
from tests import golden
from tests.conftest import REPOSITORY
from tests.deep_fashion_folder import prepare_deep_fashion, write_folder
from tests.golden import CONFIGS, STEPPED


def load(name):
    return config_files.load(f"{REPOSITORY}/configs/{name}")


@pytest.mark.quick
def test_every_config_is_listed_here():
    assert {name.partition(":")[0] for name in CONFIGS} == {
        path.name for path in (REPOSITORY / "configs").glob("*.py")
    }


@pytest.mark.quick
@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_passes_its_checks(name):
    config = load(name)
    if "arms" in config:
        check_study_config(config)
    else:
        check_train_config(config)


@pytest.mark.quick
@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_sets_what_its_golden_file_says(name):
    assert golden.differences(name) == golden.path(name).read_text(), "see `python -m tests.golden`"


KEEP = {("jigsaw.py:2x2", ""), ("classification.py", ""), ("quickstart.py", "jigsaw")}


def one_step_runs():
    """The training runs of all configs, each once, cut to one step.

    Three of them keep AlexNet, but a narrow one; the others have a network that compiles faster.
    """
    import tests.plugin  # noqa: F401, adds small_net

    runs = {}
    for name in STEPPED:
        config = load(name)
        whole = {"": config}
        if "arms" in config:
            whole = {**config.pretexts, "classification": config.classification}
        for part, run in whole.items():
            run = run.copy_and_resolve_references()
            run.epochs = 1
            if (name, part) in KEEP:
                run.model.width = 0.125
            else:
                select(run, "model", "small_net")
            run.schedule.warmup_epochs = min(run.schedule.warmup_epochs, 1.0)
            if run.data.dataset.startswith("deep_fashion"):
                run.batch_size = 8  # the generated folder has few images
                run.data.train_split += "[:8]"
            else:
                run.data.dataset = "fashion_mnist_10k"
                run.batch_size = min(run.batch_size, 64)
                run.data.train_split = "images[:64]"
                run.data.validation_split = run.data.test_split = "images[64:96]"
            runs.setdefault(run.to_json(sort_keys=True), pytest.param(run, id=f"{name} {part}"))
    return list(runs.values())


@pytest.fixture(scope="module")
def deep_fashion(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deep_fashion")
    write_folder(folder / "source", images=60, longest=300)
    for config in ("slides", "official"):
        prepare_deep_fashion(config, str(folder / "source"), str(folder / "tfds"))
    return str(folder / "tfds")


@pytest.mark.parametrize("config", one_step_runs())
def test_one_step_of_every_config(config, deep_fashion, data_dir, tmp_path):
    photographs = config.data.dataset.startswith("deep_fashion")
    config.data.data_dir = deep_fashion if photographs else data_dir
    train(config, tmp_path / "run")
    rows = read_metrics(tmp_path / "run")
    assert [row["kind"] for row in rows] == ["train"] * (len(rows) - 1) + ["validation"]
    assert rows[-1]["step"] <= 2
    shutil.rmtree(tmp_path / "run")


@pytest.mark.quick
def test_the_slides_settings():
    pretext, downstream = load("jigsaw.py:3x3"), load("classification.py")
    assert (pretext.method.grid, pretext.method.tile) == (3, 75)
    assert pretext.optimizer.learning_rate == 5e-4
    assert downstream.optimizer.learning_rate == 1e-4
    assert downstream.init_layers == "backbone/conv*"
    for config in (pretext, downstream):
        schedule = config.schedule
        assert (schedule.name, schedule.every_epochs, schedule.factor) == ("step", 5, 0.3)
        assert (config.epochs, config.batch_size, config.data.image_size) == (20, 64, 227)
        assert (config.optimizer.name, config.optimizer.weight_decay) == ("adam", 1e-3)
        assert config.optimizer.decay_biases_and_norms
        assert (config.model.width, config.model.dropout) == (1.0, 0.5)


@pytest.mark.quick
def test_mistakes_in_a_study_are_named():
    config = config_files.load(f"{REPOSITORY}/tests/tiny_study.py")
    config.arms.puzzle.start = "puzzel"
    with pytest.raises(InputError, match=r"arms.puzzle.start: 'puzzel'; did you mean 'puzzle'"):
        check_study_config(config)
    config.arms.puzzle.start = "puzzle"
    config.pretexts.puzzle.epochs = 0
    with pytest.raises(InputError, match="puzzle: epochs must be > 0, got 0"):
        check_study_config(config)
    config.pretexts.puzzle.method = {"name": "puzzle"}
    with pytest.raises(InputError, match="puzzle: method.name: unknown method 'puzzle'; known"):
        complete_study(config)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"classification", "follow"}))
def test_every_recipe_goes_on_with_classification(method, data_dir):
    model = "vit_tiny" if method in ("mae", "ibot", "ijepa") else "resnet18"
    config = load(f"pretrain.py:method={method},model={model},data=fashion_mnist_10k")
    config.data.data_dir = data_dir
    select(config, "method", "classification")  # as in the command that `train` names at its end
    assert open_run(resolve(config)).method.names_classes


@pytest.mark.quick
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("label_fractions", (1.0, 10.0), r"must be > 0 and <= 1 \(0.1 is 10 %\), got 10"),
        ("label_fractions", (1.0, 0.0), "must be > 0 and <= 1"),
        ("label_fractions", (), "must have at least one share"),
        ("label_fractions", (1.0, "a"), "expected tuple as in"),
        ("label_fractions", (0.12345678, 0.12345679), "must differ in their first six digits"),
        ("label_epochs", (0,), "must be whole numbers > 0, got 0"),
        ("label_epochs", (1.5,), "must be whole numbers > 0, got 1.5"),
    ],
)
def test_shares_and_epochs_of_a_study(key, value, said):
    config = config_files.load(f"{REPOSITORY}/tests/tiny_study.py")
    config[key] = value
    with pytest.raises(InputError, match=f"^{key}.* {said}"):
        check_study_config(config)


@pytest.mark.quick
def test_arms_have_the_layers_of_the_classification_unless_they_name_others():
    config = complete_study(config_files.load(f"{REPOSITORY}/configs/quickstart.py"))
    config.classification.init_layers, config.classification.frozen_layers = "backbone", "head"
    config.arms.jigsaw.frozen_layers = "backbone/conv1"
    runs = {
        cell.arm: plan.arm_run(config, cell, pathlib.Path(), 0).config
        for cell in plan.cells(config)
    }
    layers = {name: (run.init_layers, run.frozen_layers) for name, run in runs.items()}
    assert layers == {
        "random": ("backbone", "head"),
        "jigsaw": ("backbone/conv*", "backbone/conv1"),
    }


@pytest.mark.quick
def test_every_run_of_a_study_has_a_folder_of_its_own():
    config = complete_study(config_files.load(f"{REPOSITORY}/tests/tiny_study.py"))
    config.arms["puzzle-long"] = arm_config("puzzle")
    for name in ("slow", "long-slow"):
        config.settings[name] = setting_config()
    check_study_config(config)
    with pytest.raises(InputError, match="the same folder, arm-puzzle-long-slow; rename one"):
        preflight.check(config)


def test_an_unknown_config_file_names_the_nearest():
    with pytest.raises(InputError, match=r"no file jigsew.py; did you mean 'configs/jigsaw.py'"):
        config_files.find("jigsew.py")


def test_fashion_mnist_keeps_its_sides_apart():
    config = load("fashion_mnist.py")
    check_study_config(config)
    splits = {run.data.train_split for run in config.pretexts.values()}
    assert splits == {"train[:70%]", "train[:21%]", "train[:7%]"}
    data = config.classification.data
    assert (data.train_split, data.validation_split) == ("train[70%:95%]", "train[95%:]")
    assert data.test_split == "test"


@pytest.mark.quick
def test_pretrain_takes_its_parts_in_any_order_and_fills_in_the_others():
    for parts in itertools.permutations(("method=jigsaw", "model=alexnet", "data=fashion_mnist")):
        config = load(f"pretrain.py:{','.join(parts)}")
        assert config.data.dataset == "fashion_mnist"
    assert load("pretrain.py:method=classification").data.dataset == "fashion_mnist_10k"


def test_pretrain_has_an_entry_for_every_method_and_model():
    tables = runpy.run_path(f"{REPOSITORY}/configs/pretrain.py")
    assert set(tables["TABLES"]["method"]) == set(METHODS) - {"follow"}
    assert set(tables["TABLES"]["model"]) == set(MODELS) - {"small_net"}


@pytest.mark.quick
@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("", "method=NAME is missing; known: jigsaw, jigsaw_permutations, relative_patch, "),
        ("jigsaw", "'jigsaw' is not PART=NAME"),
        ("methods=jigsaw", "did you mean 'method'"),
        ("method=jigsew", "method=jigsew: unknown; did you mean 'jigsaw'"),
        (
            "method=jigsaw,data=fashion_mnst",
            "data=fashion_mnst: unknown; did you mean 'fashion_mnist'",
        ),
    ],
)
def test_mistakes_in_the_choice_are_named(choice, said):
    with pytest.raises(InputError, match=said):
        load(f"pretrain.py:{choice}")


@pytest.mark.quick
def test_another_model_or_method_brings_its_own_options():
    import tests.plugin  # noqa: F401

    config = train_config("jigsaw", "alexnet")
    config.model.width, config.model.dropout = 0.25, 0.2
    assert select(config, "model", "small_net") == ["width=0.25"]  # an integer there
    assert config.model.width == 8
    assert set(config.model) == {"name", "dtype", "remat", "width", "dropout", "normalize"}
    assert config.model.dropout == 0.2
    config.method.grid = 4
    assert select(config, "method", "classification") == ["grid=4"]
    assert dict(config.method) == method_defaults("classification")
    assert select(config, "method", "unknown") == []
