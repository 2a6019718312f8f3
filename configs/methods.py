"""Which method gives the best features? A study on the data set that comes with the package.

    python -m ssljax.study --config=configs/methods.py --workdir=runs/methods
    python -m ssljax.study --config=configs/methods.py:simclr+byol+rotation --workdir=runs/other

Methods of configs/pretrain.py train a ResNet-18 of an eighth of the width on 6,000 images without
labels. Their features are then probed, and the whole network is fine-tuned, with 1,000 labels and
with 100. Random weights are beside them.
"""

import pathlib

from ml_collections import ConfigDict

import ssljax
from ssljax.settings import config_files

HERE = pathlib.Path(__file__).parent
EPOCHS = 6
DEFAULT = "rotation+simclr+vicreg"


def get_config(methods: str = DEFAULT) -> ConfigDict:
    """A study of methods, separated by `+`."""
    config = ssljax.study_config()
    config.probes = ("knn", "linear")
    config.label_fractions, config.label_epochs = (1.0, 0.1), (15, 40)
    config.classification = _on_embedded_images("classification")
    config.classification.data.train_split = "images[60%:70%]"
    config.classification.batch_size = 64
    config.classification.schedule.name = "cosine"
    config.classification.validate_every_epochs = 5
    config.arms.random = ssljax.arm_config("random")
    for name in methods.split("+"):
        config.pretexts[name] = _on_embedded_images(name)
        config.pretexts[name].epochs = EPOCHS
        config.pretexts[name].schedule.warmup_epochs = 1
        config.pretexts[name].validate_every_epochs = EPOCHS
        config.arms[name] = ssljax.arm_config(name)
    return config


def _on_embedded_images(method: str) -> ConfigDict:
    config = config_files.load(f"{HERE}/pretrain.py:method={method},model=resnet18")
    config.data.train_split = "images[:60%]"
    if "gap" not in config.method:  # puzzles have sizes of their own
        config.data.image_size = 28
    config.model.width = 0.125
    config.batch_size = 256
    return config
