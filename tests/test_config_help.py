"""`--help` and `--print_config` with a config, and configs as JSON."""

from __future__ import annotations

import json

import pytest

from ssljax.methods import method_defaults
from ssljax.runs import config_json
from ssljax.runs.config import described
from ssljax.runs.config_flags import ConfigCommand
from ssljax.runs.folder import read_config
from ssljax.settings import config_files
from ssljax.settings.errors import InputError
from ssljax.settings.options import flatten
from ssljax.studies.checks import described as described_study
from ssljax.studies.config import setting_config
from ssljax.training.loop import train
from tests.conftest import REPOSITORY
from tests.golden import CONFIGS
from tests.test_command_line import run


def parsed(*arguments: str, study: bool = False) -> ConfigCommand:
    command = ConfigCommand("ssljax-test", "A command.", "python -m ssljax.test")
    command.config(described_study if study else described)
    command.text("workdir", "a folder", required=True)
    command.parse(arguments)
    return command


@pytest.mark.quick
@pytest.mark.parametrize("name", CONFIGS)
def test_help_lists_every_setting_of_a_config(name):
    spec = f"--config={REPOSITORY}/configs/{name}"
    study = "arms" in parsed(spec, "--workdir=x").flags.config
    command = parsed(spec, "--help", study=study)
    text = command.printed()
    assert "ConfigDict" not in text
    for key, _ in flatten(command.flags.config):
        start = text.index(f"  --config.{key}=")
        entry = text[start:].partition("\n  --config.")[0]
        if ".axes." not in key and not key.startswith("published."):
            assert len(entry.split()) > 3, entry


@pytest.mark.quick
def test_help_shows_value_text_and_range():
    spec = f"--config={REPOSITORY}/configs/pretrain.py:method=jigsaw"
    text = parsed(spec, "--config.epochs=7", "--help").printed()
    lines = {" ".join(line.split()) for line in text.splitlines()}
    assert {
        "--config.epochs=7 passes over the training images (> 0, <= 1,000,000)",
        "--config.method.grid=3 tiles along each side (>= 2, <= 64)",
        "--config.optimizer.name=adam `adam`, `adamw` and `sgd` as PyTorch has them, "
        "`lars` as SimCLR has it (adam | adamw | sgd | lars)",
        "--config.data.train_split='images[:70%]' split to train on, such as train[:70%]",
        "--config.data.mean=0.5,0.5,0.5 subtracted from channels in [0, 1]",
    } <= lines


@pytest.mark.quick
def test_the_value_of_a_flag_is_not_taken_for_a_setting():
    spec = f"--config={REPOSITORY}/configs/pretrain.py:method=jigsaw"
    found = parsed(spec, "--workdir", "config.png", "--config.data.dataset", "config.photos").flags
    assert found.workdir == "config.png"
    assert found.config.data.dataset == "config.photos"
    for mistake in (["--config.png", "1"], ["-config.png=1"], ["--noconfig.png"]):
        with pytest.raises(InputError, match="unknown key png"):
            parsed(spec, "--workdir", "x", *mistake)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (["--config.probes=knn,linear"], ("knn", "linear")),
        (["--config.probes", "knn,linear"], ("knn", "linear")),
        (["--config.probes=knn, linear,"], ("knn", "linear")),
        (["--config.probes=knn"], ("knn",)),
        (["--config.probes=knn", "--config.probes=linear"], ("knn", "linear")),
        (["--config.probes=('knn', 'linear')"], ("knn", "linear")),
        (["--config.probes='knn','linear'"], ("knn", "linear")),
        (["--config.probes=()"], ()),
    ],
)
def test_names_are_typed_as_numbers_are(typed, found):
    spec = f"--config={REPOSITORY}/tests/tiny_study.py"
    assert parsed(spec, "--workdir=x", *typed, study=True).flags.config.probes == found


@pytest.mark.quick
def test_tuples_of_a_study_on_the_command_line(tmp_path):
    """Each setting of a study that is a tuple, as it is typed, through JSON and back."""
    tuples = {
        "label_fractions": ("1,0.1", [1, 0.1]), "label_epochs": ("2,4", [2, 4]),
        "probes": ("knn,linear", ["knn", "linear"]),
        "arms.puzzle.settings": ("fast,long warm-up,1e-3", ["fast", "long warm-up", "1e-3"]),
    }  # fmt: skip
    typed = [f"--config.{key}={text}" for key, (text, _) in tuples.items()]
    config = config_files.load(f"{REPOSITORY}/tests/tiny_study.py")
    for name in ("fast", "long warm-up", "1e-3"):
        config.settings[name] = setting_config()
    (tmp_path / "study.json").write_text(config_json.dumps(config))
    command = parsed(f"--config={tmp_path}/study.json", "--print_config", *typed, study=True)
    printed = dict(flatten(json.loads(command.printed())))
    for key, (_, value) in tuples.items():
        assert printed[key] == value
    numbers = "--config.arms.puzzle.settings=1e-3,1e-4"
    command = parsed(f"--config={tmp_path}/study.json", "--print_config", numbers, study=True)
    said = r"arms.puzzle.settings: 0.001 is not a name; quote .*settings=\"'1e-3','1e-4'\""
    with pytest.raises(InputError, match=said):
        command.printed()


@pytest.mark.quick
def test_help_without_a_config_names_configs_and_the_settings_of_every_run():
    text = parsed("--help").printed()
    for path in (REPOSITORY / "configs").glob("*.py"):
        assert f"  configs/{path.name} " in text
    assert "--config.batch_size=64" in text
    assert "--config=FILE --help lists all settings of that config" in text


@pytest.mark.quick
@pytest.mark.parametrize("name", CONFIGS)
def test_printed_settings_are_a_config(name, tmp_path):
    spec = f"--config={REPOSITORY}/configs/{name}"
    study = "arms" in parsed(spec, "--workdir=x").flags.config
    text = parsed(spec, "--print_config", study=study).printed()
    (tmp_path / "config.json").write_text(text)
    again = parsed(f"--config={tmp_path}/config.json", "--print_config", study=study)
    assert again.printed() == text


def test_print_config_needs_no_folder():
    done = run("train", "--config=configs/pretrain.py:method=rotation", "--config.data.std=1,1,1",
               "--print_config")  # fmt: skip
    assert json.loads(done.stdout)["data"]["std"] == [1, 1, 1]
    said = run("train", "--print_config", code=2).stderr
    assert said == "ssljax-train: --config=FILE is missing\n"


def test_a_runs_own_config_trains_it_again(pretext_run, tmp_path):
    spec = f"--config={pretext_run}/config.json"
    command = parsed(spec, "--config.epochs=1", "--config.data.mean=0.4,0.4,0.4", "--workdir=x")
    train(command.flags.config, tmp_path / "run")
    before, now = read_config(pretext_run), read_config(tmp_path / "run")
    assert (now.epochs, now.data.mean) == (1, (0.4, 0.4, 0.4))
    now.epochs, now.data.mean = before.epochs, before.data.mean
    assert config_json.dumps(now) == config_json.dumps(before)
    command = parsed(spec, "--config.method.name=classification", "--workdir=x")
    assert command.flags.config.method.to_dict() == method_defaults("classification")


@pytest.mark.quick
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "config.json is damaged: Expecting property name"),
        ("[1]", "config.json is damaged: Expected `object`"),
        ('{"format": 0}', "the run has format 0, this version of ssljax reads format 1"),
    ],
)
def test_json_that_is_no_config_is_named(tmp_path, text, said):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=said):
        parsed(f"--config={tmp_path}/config.json", "--help")


@pytest.mark.quick
@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("none/config.json", "--config: no file none/config.json"),
        (str(REPOSITORY), rf"a run's own config is {REPOSITORY}/config\.json"),
        (f"{REPOSITORY}/configs/quickstart.py", "this is a study's config; run it with"),
    ],
)
def test_what_is_no_config_of_a_run_is_named(spec, said):
    with pytest.raises(InputError, match=said):
        parsed(f"--config={spec}", "--print_config").printed()
