"""A study for tests."""

from ml_collections import ConfigDict

from ssljax import arm_config, study_config
from ssljax.settings import config_files


def get_config() -> ConfigDict:
    config = study_config()
    config.published = ConfigDict(
        {
            "dataset": "fashion_mnist_10k:1.0.0",
            "source": "a talk",
            "random": {"top1": 0.522},
            "pretext": {"top1": 0.474, "top3": 0.715},
        }
    )
    config.pretexts.puzzle = config_files.load("tests/tiny.py:jigsaw,small_net")
    config.classification = config_files.load("tests/tiny.py:classification,small_net")
    config.arms.puzzle = arm_config("puzzle", "pretext", "backbone/conv")
    config.arms.random = arm_config("random", "random")
    config.arms.imagenet = arm_config("weights_file")
    return config
