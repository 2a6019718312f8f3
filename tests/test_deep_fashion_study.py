"""Another method in the place of the slides' puzzle, on a generated DeepFashion folder."""

from __future__ import annotations

import jax
import pytest

from ssljax import study
from ssljax.methods import METHODS
from ssljax.models.torch import state_dict_files
from ssljax.models.torch.layouts import ALEXNET
from ssljax.settings import config_files
from ssljax.settings.errors import InputError
from ssljax.studies.results import chosen
from tests.conftest import REPOSITORY
from tests.deep_fashion_folder import prepare_deep_fashion, write_folder
from tests.networks import Classifier

STUDY = f"{REPOSITORY}/configs/study.py"
# Other tests may have added methods of their own.
OURS = sorted(
    name
    for name, method in METHODS.items()
    if method.__module__.startswith("ssljax.") and name != "classification"
)


# Pixels of an image whose local views, or whose tiles, have the 64 px that AlexNet needs.
SIZES = {"simclr": 64, "swav": 150, "jigsaw_permutations": 255}


def test_three_methods_with_random_and_imagenet_weights_beside_them(tmp_path):
    """The full-size settings but for the width, the image and the length of the training."""
    pytest.importorskip("safetensors", reason="needs the extra `safetensors`")
    write_folder(tmp_path / "source")
    prepare_deep_fashion("slides", str(tmp_path / "source"), str(tmp_path / "d"))
    params = jax.device_get(Classifier(1000, width=1 / 16).init())
    weights = tmp_path / "imagenet.safetensors"
    state_dict_files.write(weights, ALEXNET.write(params), {})

    config = config_files.load(f"{STUDY}:pretext=simclr").unlock()
    for pretext in SIZES:
        other = config_files.load(f"{STUDY}:pretext={pretext}")
        config.pretexts[pretext], config.arms[pretext] = (
            other.pretexts[pretext],
            other.arms[pretext],
        )
        config.pretexts[pretext].schedule.warmup_epochs = 0.5
        config.pretexts[pretext].validate_every_epochs = 1
    config.weights_file = str(weights)
    sizes = [(config.pretexts[pretext], size) for pretext, size in SIZES.items()]
    for run, size in (*sizes, (config.classification, 64)):
        run.data.data_dir, run.data.image_size, run.model.width = str(tmp_path / "d"), size, 1 / 16
        run.batch_size, run.epochs = 8, 1
        # One map of photographs is enough here.
        if run is not config.pretexts.simclr:
            run.probes.map_images = 0
    results = study(config.lock(), tmp_path / "study")
    assert set(results["arms"]) == {"random", "imagenet", *SIZES}
    for name, arm in results["arms"].items():
        assert 0 <= chosen(arm)["mean"]["top1"] <= 1, name
    text = (tmp_path / "study/report.html").read_text()
    for pretext in SIZES:
        assert pretext in text
        said = (tmp_path / f"study/seed-0/arm-{pretext}/init.json").read_text()
        assert str(tmp_path / f"study/seed-0/pretext-{pretext}") in said
        assert "backbone/conv5/kernel" in said


@pytest.mark.parametrize("pretext", OURS)
def test_every_method_takes_the_place_of_the_puzzles(pretext):
    config = config_files.load(f"{STUDY}:pretext={pretext}")
    assert config.pretexts[pretext].method.name == pretext
    assert config.pretexts[pretext].data.dataset == "deep_fashion/slides"
    assert set(config.arms) == {"random", pretext, "imagenet"}


def test_another_network_for_all_arms():
    config = config_files.load(f"{STUDY}:model=resnet50,pretext=simclr")
    assert {config.pretexts.simclr.model.name, config.classification.model.name} == {"resnet50"}
    assert config.pretexts.simclr.data.train_split == "pretext_train"
    assert {arm.init_layers for arm in config.arms.values() if arm.start != "random"} == {
        "backbone"
    }
    assert config.arms.simclr.published == ""


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("simclr", "'simclr' is not PART=NAME"),
        ("pretext=simclx", "pretext=simclx: unknown; did you mean 'simclr'"),
        ("pretext=simclr,model=resnet5", "model=resnet5: unknown; did you mean 'resnet50'"),
        ("pretext=classification", "pretext=classification: unknown"),
        ("model=resnet50", "the slides' puzzles are for alexnet; add pretext=NAME"),
    ],
)
def test_mistakes_in_the_choice_are_named(choice, said):
    with pytest.raises(InputError, match=said):
        config_files.load(f"{STUDY}:{choice}")
