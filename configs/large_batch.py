"""Does a batch of 1,024 reach the accuracy of one of 64? On the data set within the package.

    for arm in 64 1024 1024_unscaled; do
        python -m ssljax.train --config=configs/large_batch.py:$arm --workdir=runs/large_batch_$arm
        python -m ssljax.evaluate --workdir=runs/large_batch_$arm
    done

7,000 images to train on, 1,000 for validation, 2,000 to test; AlexNet at an eighth of its width.
What came out, and the commands for the full data set, are in docs/results_small.md.
"""

from ml_collections import ConfigDict

from ssljax import train_config

ARMS = ("64", "1024", "1024_unscaled")


def get_config(arm: str = "1024") -> ConfigDict:
    """The settings of an arm.

    Args:
      arm: `64`; `1024`, with the learning rate scaled by the root, and warm-up;
        `1024_unscaled`, with the settings of 64.
    """
    if arm not in ARMS:
        raise ValueError(f"configs/large_batch.py:{arm} is not one of {', '.join(ARMS)}")
    config = train_config("classification", "alexnet")
    config.data.dataset = "fashion_mnist_10k"
    config.data.train_split = "images[:70%]"
    config.data.validation_split = "images[70%:80%]"
    config.data.test_split = "images[80%:]"
    config.data.image_size = 64
    config.data.cache = "ram"
    config.model.width = 0.125
    config.model.initializer = "lecun_normal"  # PyTorch's loses hundreds of steps
    config.epochs = 50
    config.schedule.every_epochs = 30
    config.validate_every_epochs = 5
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 1e-5
    if arm != "64":
        config.batch_size = 1024
    if arm == "1024":
        config.optimizer.learning_rate_scaling = "sqrt"
        config.schedule.warmup_epochs = 2.0
    return config
