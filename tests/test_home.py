"""`~` in a path is the home folder, whichever command, setting or function the path is given to."""

from __future__ import annotations

import pytest
from PIL import Image

from ssljax import load_run, weights
from ssljax.data.prepared import open_prepared
from ssljax.evaluate import evaluate, save
from ssljax.models.torch.layouts import read_file
from ssljax.prepare import prepare
from ssljax.runs.run import open_class_names
from ssljax.runs.transfer import load_source
from ssljax.settings import config_files
from ssljax.training.loop import train
from tests.commands import run
from tests.conftest import REPOSITORY
from tests.deep_fashion_folder import write_folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home folder; the working folder must stay empty."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(elsewhere)
    yield home
    assert not list(elsewhere.iterdir())


def test_data_folders(home):
    (home / "config.py").write_text((REPOSITORY / "tests/tiny.py").read_text())
    config = config_files.load("~/config.py:jigsaw")
    config.data.data_dir = "~/data"
    assert len(open_class_names(config)) == 10
    assert (home / "data/fashion_mnist_10k").is_dir()
    write_folder(home / "source", images=20, longest=80)
    prepare("~/source", data_dir="~/prepared")
    prepare("~/source", data_dir="~/prepared")  # finds it
    assert (home / "prepared/deep_fashion/slides").is_dir()
    assert open_prepared("deep_fashion/slides", "~/prepared").splits["test"].num_examples


def test_run_folders_images_and_weights(home, make_config):
    config = make_config("classification").copy_and_resolve_references().unlock()
    config.epochs = 1
    config.data.data_dir = "~/data"
    train(config, "~/run")
    config.init_from = "~/run"
    assert load_source(config).origin.startswith(str(home / "run"))
    save(evaluate("~/run", data_dir="~/data"), "~/run")
    assert list((home / "run/evaluation").iterdir())
    Image.new("RGB", (80, 80)).save(home / "image.png")
    assert load_run("~/run").outputs(["~/image.png"]).shape == (1, 10)

    weights.export_weights("~/run", "~/weights.safetensors", "")
    assert read_file("~/weights.safetensors")
    (home / "names.txt").write_text("\n".join(map(str, range(10))))
    arguments = ("import", "~/weights.safetensors", "~/imported", "--class_names=~/names.txt")
    run("weights", *arguments, HOME=str(home))
    assert (home / "imported/config.json").exists()
