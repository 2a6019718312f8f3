"""The Bern group's whole experiment: both puzzles, then classification from every start.

    python -m ssljax.study --config=configs/study.py --workdir=runs/study

Needs `deep_fashion/slides`, prepared as docs/data.md says. With
`--config.weights_file=alexnet-owt-7be5be79.pth` the ImageNet arm is trained as well;
`--config.seeds=3` repeats everything. Published top-1: random 52.2, pretext 47.4, ImageNet 59.5.
Not run on DeepFashion by us: the data set is handed out on request.
"""

import pathlib

from ml_collections import ConfigDict

import ssljax
from ssljax.settings import config_files

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


def get_config() -> ConfigDict:
    """The study of all that the slides show."""
    config = ssljax.study_config()
    config.published = ConfigDict(PUBLISHED)
    config.pretexts.jigsaw_2x2 = config_files.load(f"{HERE}/jigsaw.py:2x2")
    config.pretexts.jigsaw_3x3 = config_files.load(f"{HERE}/jigsaw.py:3x3")
    config.classification = config_files.load(f"{HERE}/classification.py")
    convolutions = config.classification.init_layers
    config.arms.random = ssljax.arm_config("random", published="random")
    # It is not known which puzzle the slides' pretext arm solved, so both are compared with it.
    for name in config.pretexts:
        config.arms[name] = ssljax.arm_config(name, "pretext", convolutions)
    config.arms.imagenet = ssljax.arm_config("weights_file", "imagenet")
    return config
