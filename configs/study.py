"""The slides' whole experiment: both puzzles, then classification from every start.

    python -m ssljax.study --config=configs/study.py --workdir=runs/study

Needs `deep_fashion/slides`, prepared as docs/data.md says. With
`--config.weights_file=alexnet-owt-7be5be79.pth` the ImageNet arm is trained too;
`--config.seeds=3` repeats everything. Published top-1: random 52.2, pretext 47.4, ImageNet 59.5.
Not run on DeepFashion by us yet: the data set is handed out on request.
"""

import pathlib

from ml_collections import ConfigDict

from ssljax import config_files
from ssljax.config import arm_config, study_config

HERE = pathlib.Path(__file__).parent


def get_config() -> ConfigDict:
    """The study of all the slides show."""
    config = study_config()
    config.pretexts.jigsaw_2x2 = config_files.load(f"{HERE}/jigsaw.py:2x2")
    config.pretexts.jigsaw_3x3 = config_files.load(f"{HERE}/jigsaw.py:3x3")
    config.classification = config_files.load(f"{HERE}/classification.py")
    config.arms.random = arm_config("random", slides_arm="random")
    # Which puzzle the slides' pretext arm solved is not known, so both stand beside it.
    config.arms.jigsaw_2x2 = arm_config("jigsaw_2x2", slides_arm="pretext")
    config.arms.jigsaw_3x3 = arm_config("jigsaw_3x3", slides_arm="pretext")
    config.arms.imagenet = arm_config("weights_file", slides_arm="imagenet")
    return config
