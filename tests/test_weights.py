"""`ssljax.weights`: what travels in files besides tensors, and checkpoints as others write them."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import numpy as np
import pytest

from ssljax import load_run, weights
from ssljax.models.torch import description, state_dict_files
from ssljax.models.torch.description import IMAGENET, Description
from ssljax.models.torch.layouts import ALEXNET, read_file
from ssljax.runs.imported_weights import import_weights
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from tests.commands import run as run_command
from tests.conftest import REPOSITORY
from tests.networks import Classifier

pytest.importorskip("safetensors", reason="needs the extra `safetensors`")

IMAGES = [np.random.default_rng(0).integers(0, 256, (90, 80, 3), np.uint8) for _ in range(3)]


@pytest.fixture(scope="module")
def run(make_config, tmp_path_factory):
    """A classification of 72 px with a normalisation of its own."""
    folder = tmp_path_factory.mktemp("weights") / "run"
    config = make_config("classification")
    config.epochs, config.data.image_size = 1, 72
    config.data.mean, config.data.std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    train(config, folder)
    return folder


def command(*arguments, without="", code=0):
    """What `ssljax.weights` says; a package can be missing in its process."""
    if not without:
        done = run_command("weights", *map(str, arguments), code=code)
        return done.stdout + done.stderr
    script = f"import sys; sys.modules[{without!r}] = None; from ssljax.weights import cli; cli()"
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_safetensors_file_says_all_that_a_run_needs_without_pytorch(run, tmp_path):
    command("export", run, tmp_path / "w.safetensors", without="torch")
    assert "numbered" not in command(
        "import", tmp_path / "w.safetensors", tmp_path / "back", without="torch"
    )
    before, after = load_run(run), load_run(tmp_path / "back")
    assert after.classify(IMAGES) == before.classify(IMAGES)
    for key in ("mean", "std", "image_size", "dataset", "test_split"):
        assert after.run.config.data[key] == before.run.config.data[key], key
    said = command("export", run, tmp_path / "w.pth", without="torch", code=2)
    assert "w.pth needs torch; install it with `pip install -e '.[torch]'`" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("export", "RUN", "w", "--mean=0.5,0.5,0.5"), "--mean: export does not take it"),
        (("import", "w", "RUN", "--checkpoint=best"), "--checkpoint: import does not take it"),
        (
            ("export", "RUN", "w.safetensors", "--licence=mit"),
            "w.safetensors has no model card; export to a folder",
        ),
    ],
)
def test_flags_that_would_do_nothing_are_refused(run, arguments, said):
    assert said in command(*(part.replace("RUN", str(run)) for part in arguments), code=2)


def test_what_a_pth_file_cannot_say_is_asked_for(run, tmp_path):
    pytest.importorskip("torch", reason="needs the extra `torch`")
    said = command("export", run, tmp_path / "w.pth")
    flags = (
        "--mean=0.4,0.5,0.6 --std=0.2,0.3,0.4 --image_size=72 --dataset=fashion_mnist_10k "
        "--class_names=FILE"
    )
    assert f"w.pth cannot say how images are prepared; import it with {flags}" in said
    said = command("import", tmp_path / "w.pth", tmp_path / "back", code=2)
    assert "does not say how images are prepared for it; give --mean, --std, --image_size" in said
    assert not (tmp_path / "back").exists()
    names = load_run(run).class_names
    (tmp_path / "names").write_text("\n".join(names) + "\n")
    flags = flags.replace("FILE", str(tmp_path / "names")).split()
    assert "numbered" not in command("import", tmp_path / "w.pth", tmp_path / "back", *flags)
    assert load_run(tmp_path / "back").classify(IMAGES) == load_run(run).classify(IMAGES)
    said = command("import", tmp_path / "w.pth", tmp_path / "ten", *flags[:3])
    assert "has no class names, so classes are numbered; see --class_names" in said
    assert load_run(tmp_path / "ten").class_names == tuple("0123456789")
    said = command("import", tmp_path / "w.pth", tmp_path / "new", "--mean=a", code=2)
    assert "--mean: expected numbers as in 0.5,0.5,0.5, got a" in said
    said = command("import", tmp_path / "w.pth", tmp_path / "new", *flags[1:3], "--mean=1", code=2)
    assert "data.mean" in said


def test_what_is_given_comes_before_what_the_file_says(run, tmp_path):
    weights.export_weights(run, tmp_path / "w.safetensors", "")
    import_weights(tmp_path / "w.safetensors", tmp_path / "back", IMAGENET)
    data = load_run(tmp_path / "back").run.config.data
    assert (data.image_size, tuple(data.mean)) == (224, IMAGENET.mean)
    assert load_run(tmp_path / "back").class_names == load_run(run).class_names


@functools.cache
def tensors():
    return ALEXNET.write(Classifier(3, width=1 / 64).init())


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("mean", "[0.5", "its metadata ssljax.mean is damaged"),
        ("mean", "3", "its metadata ssljax.mean is damaged"),
        ("std", '["a"]', "its metadata ssljax.std is damaged"),
        ("std", "[0, 0, 0]", "data.std"),
        ("mean", "[NaN, 0, 0]", "data.mean"),
        ("image_size", "72.5", "its metadata ssljax.image_size is damaged: expected int, got 72.5"),
        ("image_size", "100000000000", "data.image_size"),
        ("class_names", '["a", 2, "c"]', "its metadata ssljax.class_names is damaged"),
        ("class_names", '["a"]', "there are 1 names, but .* has 3 outputs"),
        ("dataset", "[" * 100_000, "its metadata ssljax.dataset is damaged"),
    ],
)
def test_damaged_metadata_are_named(tmp_path, key, text, said):
    metadata = {**IMAGENET.metadata(), f"ssljax.{key}": text}
    state_dict_files.write(tmp_path / "w.safetensors", tensors(), metadata)
    with pytest.raises(InputError, match=said):
        import_weights(tmp_path / "w.safetensors", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_files_of_other_programs_describe_nothing(tmp_path):
    state_dict_files.write(tmp_path / "w.safetensors", tensors(), {"mean": "?", "dataset": "x"})
    assert description.read(tmp_path / "w.safetensors") == Description()


def test_half_precision_is_read(tmp_path):
    torch = pytest.importorskip("torch", reason="needs the extra `torch`")
    safetensors_torch = pytest.importorskip("safetensors.torch")
    for dtype in (torch.bfloat16, torch.float16):
        state = {name: torch.from_numpy(value).to(dtype) for name, value in tensors().items()}
        safetensors_torch.save_file(state, tmp_path / "w.safetensors")
        torch.save(state, tmp_path / "w.pth")
        names = ("w.safetensors", "w.pth")
        one, other = (read_file(tmp_path / name).weights.params["head"] for name in names)
        np.testing.assert_array_equal(one["kernel"], other["kernel"])


@pytest.mark.parametrize("prefix", ["module.", "", "features.module."])
@pytest.mark.parametrize("key", ["state_dict", "model", ""])
def test_checkpoints_as_training_scripts_write_them(tmp_path, prefix, key):
    torch = pytest.importorskip("torch", reason="needs the extra `torch`")
    before, after = ("features.", prefix) if prefix.startswith("features") else ("", prefix)
    state = {
        name.replace(before, after, 1) if before else after + name: torch.from_numpy(value)
        for name, value in tensors().items()
    }
    whole = {"epoch": 90, "arch": "alexnet", key: state, "optimizer": {"state": {0: {"step": 1}}}}
    torch.save(whole if key else state, tmp_path / "w.pth")
    params = read_file(tmp_path / "w.pth").weights.params
    for name, value in ALEXNET.write(params).items():
        np.testing.assert_array_equal(value, tensors()[name])


def test_names_that_would_become_equal_are_refused(tmp_path):
    both = {**tensors(), "module.features.0.bias": np.zeros(1, np.float32)}
    state_dict_files.write(tmp_path / "w.safetensors", both, {})
    with pytest.raises(InputError, match="names differ only by `module.`"):
        read_file(tmp_path / "w.safetensors")


def test_a_file_with_other_objects_is_refused_without_unsafe_advice(tmp_path):
    torch = pytest.importorskip("torch", reason="needs the extra `torch`")
    torch.save({"state_dict": {}, "arguments": os.stat_result(range(10))}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="it holds other objects than tensors") as error:
        read_file(tmp_path / "w.pth")
    assert "weights_only" not in str(error.value)
