"""A study for tests."""

from ml_collections import ConfigDict

from ssljax import config_files
from ssljax.config import arm_config, study_config


def get_config() -> ConfigDict:
    config = study_config()
    config.pretexts.puzzle = config_files.load("tests/tiny.py:jigsaw")
    config.classification = config_files.load("tests/tiny.py:classification")
    config.arms.puzzle = arm_config("puzzle", slides_arm="pretext")
    config.arms.random = arm_config("random", slides_arm="random")
    config.arms.imagenet = arm_config("weights_file", slides_arm="imagenet")
    return config
