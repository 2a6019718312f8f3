"""A study small enough for a laptop, on the data set that comes with the package.

    python -m ssljax.study --config=configs/quickstart.py --workdir=runs/quickstart

It takes a minute and a half on two cores. Measured with one seed on the 2,000 test images: 96 % of
the tiles placed right (chance: 25 %); top-1 67 % from random weights and 73 % from the puzzle's.
"""

from ml_collections import ConfigDict

import ssljax

IMAGE_SIZE = 72


def get_config() -> ConfigDict:
    """A 2×2 puzzle with gaps, and classification from random weights and from the puzzle's."""
    config = ssljax.study_config()
    config.pretexts.jigsaw = _on_fashion_mnist(ssljax.train_config("jigsaw", "alexnet"))
    pretext = config.pretexts.jigsaw
    pretext.method.update({"grid": 2, "tile": 36, "gap": 4})
    pretext.epochs = 8
    pretext.optimizer.learning_rate = 1e-3
    pretext.schedule.every_epochs = 6
    config.classification = _on_fashion_mnist(ssljax.train_config("classification", "alexnet"))
    config.classification.data.train_split = "images[60%:70%]"
    config.classification.epochs = 20
    config.classification.optimizer.learning_rate = 5e-4
    config.classification.probes.map_images = 0  # the page of the study has the puzzle's map
    config.arms.random = ssljax.arm_config("random")
    config.arms.jigsaw = ssljax.arm_config("jigsaw", init_layers="backbone/conv*")
    return config


def _on_fashion_mnist(config: ConfigDict) -> ConfigDict:
    config.data.dataset = "fashion_mnist_10k"
    config.data.train_split = "images[:60%]"
    config.data.validation_split = "images[70%:80%]"
    config.data.test_split = "images[80%:]"
    config.data.image_size = IMAGE_SIZE
    config.model.width = 0.125
    config.optimizer.weight_decay = 1e-5
    config.validate_every_epochs = 2
    return config
