"""Starting from the weights of another run."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

import ssljax
from ssljax import load_run
from ssljax.models import model_defaults
from ssljax.runs import config_json, transfer
from ssljax.runs.config import complete, resolve
from ssljax.runs.next_steps import next_steps
from ssljax.runs.run import open_run
from ssljax.runs.saved_checkpoints import SavedCheckpoints
from ssljax.settings import config_files
from ssljax.settings.errors import InputError
from ssljax.studies import preflight
from ssljax.studies.config import complete_study
from ssljax.training.loop import train
from tests.commands import run as run_command


def latest_params(folder):
    checkpoints = SavedCheckpoints(folder)
    parts = checkpoints.restore_as_saved("latest", checkpoints.step("latest"), ("params",))
    return parts["params"]


def test_classification_starts_from_the_pretext_runs_convolutions(pretext_run, classification_run):
    report = json.loads((classification_run / "init.json").read_text())
    layers = [f"backbone/conv{i}" for i in range(1, 6)]
    convolutions = [f"{layer}/{name}" for layer in layers for name in ("bias", "kernel")]
    others = ["backbone/fc6", "backbone/fc7", "head"]
    dense = [f"{layer}/{name}" for layer in others for name in ("bias", "kernel")]
    assert report["loaded"] == convolutions
    assert report["fresh"] == report["skipped"] == dense
    assert str(pretext_run) in report["from"]
    assert "latest, step 14" in report["from"]


@pytest.mark.quick
def test_what_is_transferred_is_the_source():
    rng = np.random.default_rng(0)
    shapes = {"backbone": {"conv1": (3, 2), "fc6": (4, 4)}, "head": (4, 2)}
    fresh = jax.tree.map(
        lambda shape: {"kernel": jax.numpy.asarray(rng.normal(size=shape), jax.numpy.float32)},
        shapes,
        is_leaf=lambda value: isinstance(value, tuple),
    )
    stats = {
        "backbone": {"conv1": {"mean": jax.numpy.zeros(2)}, "fc6": {"mean": jax.numpy.ones(4)}},
        "head": {"norm": {"mean": jax.numpy.zeros(4)}},  # without parameters
    }
    source = transfer.Source(*jax.tree.map(lambda x: np.asarray(x) + 1, (fresh, stats)), "there")
    params, kept, report = transfer.transfer(fresh, stats, source, "backbone/conv*, head")
    np.testing.assert_array_equal(params["head"]["kernel"], source.params["head"]["kernel"])
    layer = params["backbone"]["fc6"]["kernel"]
    np.testing.assert_array_equal(layer, fresh["backbone"]["fc6"]["kernel"])
    np.testing.assert_array_equal(kept["backbone"]["conv1"]["mean"], [1, 1])
    np.testing.assert_array_equal(kept["backbone"]["fc6"]["mean"], [1, 1, 1, 1])
    np.testing.assert_array_equal(kept["head"]["norm"]["mean"], [1, 1, 1, 1])
    assert report["loaded"] == ["backbone/conv1/kernel", "head/kernel"]
    assert report["fresh"] == report["skipped"] == ["backbone/fc6/kernel"]
    for patterns, said in (
        ("", "init_layers is empty"),
        ("backbone/convv1", "matches no parameter; did you mean 'backbone/conv1'"),
        ("head", r"head/kernel is \(9, 9\) in the source and \(4, 2\) in this model"),
    ):
        other = {**source.params, "head": {"kernel": np.zeros((9, 9))}}
        with pytest.raises(InputError, match=said):
            transfer.choose(fresh, other, patterns)
    with pytest.raises(InputError, match="the source has no backbone/fc6/kernel"):
        transfer.choose(fresh, {"backbone": {"conv1": source.params["backbone"]["conv1"]}}, "*")


@pytest.mark.quick
def test_a_fingerprint_depends_on_names_values_shapes_and_types():
    def of(params, patterns="*"):
        return transfer.fingerprint(transfer.Source(params, {}, ""), patterns)

    value = np.arange(4, dtype=np.float32)
    params = {"backbone": {"a": {"kernel": value}}, "head": {"kernel": value}}
    assert of(params) == of({key: params[key] for key in ("head", "backbone")})
    assert of(params, "backbone") == of({**params, "head": {"kernel": value + 1}}, "backbone")
    assert of(params, "backbone, backbone/positions") == of(params, "backbone")
    others = (
        {"backbone": {"b": {"kernel": value}}, "head": {"kernel": value}},
        {"backbone": {"a": {"kernel": value + 1}}, "head": {"kernel": value}},
        {"backbone": {"a": {"kernel": value.reshape(2, 2)}}, "head": {"kernel": value}},
        {"backbone": {"a": {"kernel": value.view(np.int32)}}, "head": {"kernel": value}},
    )
    assert len({of(params), *map(of, others)}) == 5


def test_the_fingerprint_of_nested_parameters_is_the_same_in_every_process(pretext_run):
    code = (
        "from ssljax.runs import transfer; from ssljax import train_config; import sys\n"
        "config = train_config('jigsaw'); config.init_from = sys.argv[1]\n"
        "print(transfer.fingerprint(transfer.load_source(config), 'backbone'))"
    )
    command = [sys.executable, "-c", code, str(pretext_run)]
    found = {subprocess.run(command, capture_output=True, text=True).stdout for _ in range(2)}
    assert len(found) == 1
    assert len(found.pop().strip()) == 64


def test_a_checkpoint_of_another_architecture_is_refused(make_config, pretext_run, tmp_path):
    config = make_config("classification")
    config.model.width = 0.125
    config.init_from = str(pretext_run)
    with pytest.raises(
        InputError, match=r"backbone/conv1/bias is \(4,\) in the source and \(8,\) in this"
    ):
        train(config, tmp_path / "run")
    layer = {"kernel": jax.ShapeDtypeStruct((11, 11, 3, 8), np.float32)}
    checkpoints = SavedCheckpoints(pretext_run)
    with pytest.raises(
        InputError, match=r"of another architecture: .*conv1/kernel \(11, 11, 3, 4\)"
    ):
        checkpoints.restore_parts("latest", 14, {"params": {"backbone": {"conv1": layer}}})


def test_frozen_layers_stay_and_the_others_learn(make_config, pretext_run, tmp_path):
    config = make_config("classification")
    config.init_from = str(pretext_run)
    config.frozen_layers = "backbone/conv*"
    train(config, tmp_path / "run")
    source, result = latest_params(pretext_run), latest_params(tmp_path / "run")
    for layer, leaves in result["backbone"].items():
        unchanged = np.array_equal(source["backbone"][layer]["kernel"], leaves["kernel"])
        assert unchanged == layer.startswith("conv"), layer
    config.frozen_layers = "backbone/conw1"
    with pytest.raises(InputError, match="frozen_layers: .*conw1' matches no parameter; did you"):
        train(config, tmp_path / "other")
    config.frozen_layers = "backbone,head"
    with pytest.raises(InputError, match="frozen_layers: .* so nothing would be trained"):
        train(config, tmp_path / "other")


def test_a_mistake_that_is_mended_leaves_no_trace_in_the_folder(make_config, pretext_run, tmp_path):
    config = make_config("classification")
    config.init_from, config.init_layers = str(pretext_run), "backbone/convx"
    with pytest.raises(InputError, match="init_layers: 'backbone/convx' matches no parameter"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    config.init_layers = "backbone/conv*"
    config.epochs = 1
    train(config, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "init.json").read_text())["loaded"]


def test_a_run_is_tied_to_what_it_started_from(make_config, pretext_run, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(pretext_run, moved)
    config = make_config("classification")
    config.epochs = 1
    (tmp_path / "random").mkdir()  # a start that was killed before its first checkpoint
    (tmp_path / "random" / "init.json").write_text("{}")
    train(config, tmp_path / "random")
    config.init_from = str(moved)
    before = (tmp_path / "random" / "config.json").read_bytes()
    with pytest.raises(InputError, match="was started from random weights, not from"):
        train(config, tmp_path / "random")
    assert (tmp_path / "random" / "config.json").read_bytes() == before
    train(config, tmp_path / "carried")
    config.init_from = str(pretext_run)  # the same weights in another place
    train(config, tmp_path / "carried")
    pretext = make_config("jigsaw")
    pretext.epochs = 3
    train(pretext, moved)
    config.init_from = str(moved)
    with pytest.raises(InputError, match=r"step 14\), and .*step 21\) holds other weights"):
        train(config, tmp_path / "carried")
    shutil.rmtree(moved)
    train(config, tmp_path / "carried")


def test_starting_from_the_teacher(make_config, tmp_path):
    config = make_config("follow,small_net")
    config.epochs = 1
    train(config, tmp_path / "source")
    teacher = load_run(tmp_path / "source").parts["teacher"]["params"]["backbone"]["conv"]
    downstream = make_config("classification,small_net")
    downstream.epochs, downstream.init_from = 1, str(tmp_path / "source")
    downstream.init_part, downstream.frozen_layers = "teacher", "backbone"
    train(downstream, tmp_path / "run")
    params = latest_params(tmp_path / "run")["backbone"]["conv"]
    np.testing.assert_array_equal(params["kernel"], teacher["kernel"])
    report = json.loads((tmp_path / "run/init.json").read_text())
    assert report["from"].startswith("the teacher of ")
    # A backbone that is frozen as a whole also keeps its statistics.
    stats = [
        load_run(tmp_path / "source").parts["teacher"]["stats"],
        load_run(tmp_path / "run").parts["stats"],
    ]
    jax.tree.map(np.testing.assert_array_equal, *(each["backbone"] for each in stats))
    downstream.init_from = str(tmp_path / "run")
    with pytest.raises(InputError, match="init_part: .* has no teacher; use init_part=student"):
        train(downstream, tmp_path / "third")


def test_the_command_that_is_named_next_classifies_with_the_recipe_for_it(make_config, tmp_path):
    config = make_config("rotation").copy_and_resolve_references().unlock()
    config.init_part, config.init_layers = "teacher", "backbone/conv1"
    config.frozen_layers = "backbone/conv1"
    config.optimizer.name, config.optimizer.learning_rate = "lars", 1.0
    config.schedule.name, config.epochs = "cosine", 1000
    config = resolve(config)
    folder = tmp_path / "two words"
    folder.mkdir()
    (folder / "config.json").write_text(config_json.dumps(config))
    module, *arguments = shlex.split(next_steps(open_run(config), folder)[-1])[2:]
    assert (module, arguments[-1]) == ("ssljax.train", f"--workdir={folder}-classification")
    named = json.loads(run_command("train", *arguments, "--print_config").stdout)
    usual = complete(config_files.load("configs/pretrain.py:method=classification"))
    recipe = ["epochs", "batch_size", "optimizer", "schedule", "init_part", "init_layers"]
    for key in [*recipe, "frozen_layers", "validate_every_epochs"]:
        assert named[key] == json.loads(config_json.dumps(usual))[key], key
    assert named["init_from"] == str(folder)
    assert named["model"] == json.loads(config_json.dumps(config))["model"]


def test_weights_of_attention_with_other_heads_are_refused(make_config, tmp_path):
    small = {**model_defaults("vit_tiny"), "width": 1 / 6, "heads": 2, "depth": 1, "patch": 8}
    run = make_config("rotation").copy_and_resolve_references().unlock()
    run.model, run.epochs = {**small, "heads": 4}, 1
    train(run, tmp_path / "run")
    other = make_config("classification").copy_and_resolve_references().unlock()
    other.model, other.init_from, other.init_layers = small, str(tmp_path / "run"), "backbone"
    with pytest.raises(InputError, match="^model.heads: the attention of .*run has 4 heads; use "):
        train(other, tmp_path / "other")

    config = ssljax.study_config()
    config.pretexts.turns, config.classification = run, other
    config.classification.init_from = ""
    config.arms.turns = ssljax.arm_config("turns")
    with pytest.raises(InputError, match="arms.turns: model.heads: the attention of turns has 4 h"):
        preflight.check(complete_study(config))
