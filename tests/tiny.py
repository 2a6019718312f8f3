"""A config for tests: a network of 4 channels on 200 pictures of 64 pixels."""

from ml_collections import ConfigDict

from ssljax.config import train_config

TASKS = {
    "jigsaw": {"name": "jigsaw", "grid": 2, "tile": 32, "gap": 2},
    "classification": {"name": "classification"},
}


def get_config(task: str = "jigsaw") -> ConfigDict:
    config = train_config()
    config.task = ConfigDict(TASKS[task])
    config.data.dataset = "fashion_mnist_10k"
    config.data.train_split = "images[:200]"
    config.data.validation_split = "images[200:300]"
    config.data.test_split = "images[300:433]"
    config.data.image_size = 64
    config.model.width = 0.0625
    config.batch_size = 32
    config.epochs = 2
    config.optimizer.learning_rate = 1e-3
    config.log_every_steps = 3
    return config
