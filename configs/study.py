"""The Bern group's whole experiment: both puzzles, then classification from every start.

    python -m ssljax.study --config=configs/study.py --workdir=runs/study

Needs `deep_fashion/slides`, prepared as docs/data.md says. With
`--config.weights_file=alexnet-owt-7be5be79.pth` the ImageNet arm is trained as well;
`--config.seeds=3` repeats everything. Published top-1: random 52.2, pretext 47.4, ImageNet 59.5.
Not run on DeepFashion by us: the data set is handed out on request.

    python -m ssljax.study --config=configs/study.py:pretext=simclr --workdir=runs/simclr

puts another method in the place of the puzzles, with its settings for ImageNet in
configs/pretrain.py. `pretext=simclr,model=resnet50` also changes the network of all arms; the
ImageNet arm then takes torchvision's weights of that network.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

import ssljax
from ssljax.settings import config_files
from ssljax.settings.errors import InputError, nearest

HERE = pathlib.Path(__file__).parent

# Mihajlov, Göktepe and Baur, "Self-supervised Learning for image classification on DeepFashion",
# slides, University of Bern, 21 May 2019.
PUBLISHED = {
    "dataset": "deep_fashion/slides",
    "source": "the Bern group's slides of 2019, on DeepFashion with 48 classes",
    "random": {"top1": 0.52175, "top3": 0.75467, "top5": 0.85173},
    "pretext": {"top1": 0.47364, "top3": 0.71469, "top5": 0.82164},
    "imagenet": {"top1": 0.59459, "top3": 0.81184, "top5": 0.88593},
}


def get_config(choice: str = "") -> ConfigDict:
    """The study of all that the slides show, or of `pretext=NAME[,model=NAME]`."""
    pretext, model = parse(choice)
    config = ssljax.study_config()
    config.published = ConfigDict(PUBLISHED)
    config.classification = config_files.load(f"{HERE}/classification.py")
    if pretext:
        config.pretexts[pretext] = on_slides(pretext, model)
    else:
        config.pretexts.jigsaw_2x2 = config_files.load(f"{HERE}/jigsaw.py:2x2")
        config.pretexts.jigsaw_3x3 = config_files.load(f"{HERE}/jigsaw.py:3x3")
    if model != "alexnet":
        config.classification.model = ssljax.train_config("classification", model).model
        config.classification.init_layers = "backbone"
        if model.startswith("vit"):  # images consist of whole patches
            config.classification.model = config.pretexts[pretext].model
            config.classification.data.image_size = config.pretexts[pretext].data.image_size
    transferred = config.classification.init_layers
    config.arms.random = ssljax.arm_config("random", published="random")
    # It is not known which puzzle the slides' pretext arm solved, so both are compared with it.
    published = "" if pretext else "pretext"
    for name in config.pretexts:
        config.arms[name] = ssljax.arm_config(name, published, transferred)
    config.arms.imagenet = ssljax.arm_config("weights_file", "imagenet", "backbone")
    return config


def on_slides(method: str, model: str) -> ConfigDict:
    """A method of configs/pretrain.py on the slides' images for pretext tasks."""
    choice = f"method={method},model={model},data=deep_fashion"
    config = config_files.load(f"{HERE}/pretrain.py:{choice}")
    config.data.dataset = "deep_fashion/slides"
    config.data.train_split = "pretext_train"
    config.data.validation_split = "pretext_validation"
    config.data.test_split = "pretext_test"
    return config


def parse(choice: str) -> tuple[str, str]:
    """The names of the pretext task, or nothing for the puzzles, and of the model.

    Raises:
      InputError: an unknown part.
    """
    chosen = {"pretext": "", "model": "alexnet"}
    for part in filter(None, choice.split(",")):
        key, equals, name = part.partition("=")
        if key not in chosen or not equals:
            hint = nearest(key, chosen)
            raise InputError(f"configs/study.py: {part!r} is not PART=NAME; {hint}")
        chosen[key] = name
    tables = runpy.run_path(str(HERE / "pretrain.py"))["TABLES"]
    known = {"pretext": set(tables["method"]) - {"classification"}, "model": set(tables["model"])}
    for key, name in chosen.items():
        if name and name not in known[key]:
            hint = nearest(name, sorted(known[key]))
            raise InputError(f"configs/study.py: {key}={name}: unknown; {hint}")
    if chosen["model"] != "alexnet" and not chosen["pretext"]:
        raise InputError("configs/study.py: the slides' puzzles are for alexnet; add pretext=NAME")
    return chosen["pretext"], chosen["model"]
