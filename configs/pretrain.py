r"""Any method on any data with any model.

    python -m ssljax.train --config=configs/pretrain.py:method=jigsaw,data=fashion_mnist \
        --workdir=RUN

The argument names entries of three tables, in any order: `method` (needed), `data` (default:
fashion_mnist_10k) and `model` (default: alexnet). An entry is a function that sets what differs
from the defaults, and its docstring names the source. The data's entry is applied first, then the
model's, then the method's.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

import ssljax
from ssljax.settings.errors import InputError, nearest


# ------------------------------------------------------------------------------------------- data
def fashion_mnist_10k(config: ConfigDict) -> None:
    """Fashion-MNIST's 10,000 test images, which come with ssljax: 7,000 / 1,000 / 2,000.

    28 px, resized to 36 px, a multiple of 2 and 3 for puzzles.
    """
    data = config.data
    data.dataset = "fashion_mnist_10k"
    data.train_split = "images[:70%]"
    data.validation_split = "images[70%:80%]"
    data.test_split = "images[80%:]"
    data.image_size = 36


def fashion_mnist(config: ConfigDict) -> None:
    """Fashion-MNIST (Xiao et al., 2017): 57,000 / 3,000 of `train`, and the 10,000 of `test`."""
    data = config.data
    data.dataset = "fashion_mnist"
    data.train_split = "train[:95%]"
    data.validation_split = "train[95%:]"
    data.test_split = "test"
    data.image_size = 36


def prepared(config: ConfigDict) -> None:
    """A data set of your own, made by `python -m ssljax.prepare`; name it: config.data.dataset."""
    config.data.train_split = "train"
    config.data.validation_split = "validation"
    config.data.test_split = "test"
    config.data.image_size = 224
    config.data.random_crop = True


def deep_fashion(config: ConfigDict) -> None:
    """DeepFashion's official splits (Liu et al., 2016): 209,222 / 40,000 / 40,000 photographs.

    The Bern group's 227 px; random crops when training.
    """
    config.data.dataset = "deep_fashion/official"
    config.data.image_size = 227


# ------------------------------------------------------------------------------------------ model
def alexnet(config: ConfigDict) -> None:
    """AlexNet (Krizhevsky, 2014); on small images at a quarter of its width.

    It needs 64 px, so smaller images are resized to 72 px.
    """
    if config.data.image_size < 64:
        config.data.image_size = 72
    if config.data.image_size < 128:
        config.model.width = 0.25


def resnet(config: ConfigDict) -> None:
    """ResNet (He et al., 2016) as torchvision has it; up to 64 px with the stem for small images.

    That stem is 3×3 with stride 1, without pooling (Chen et al., 2020, "SimCLR", appendix B.9).
    """
    if config.data.image_size <= 64:
        config.model.stem = "small"


# ----------------------------------------------------------------------------------------- method
def jigsaw(config: ConfigDict) -> None:
    """3×3 puzzles, tiles with a gap and normalised (Noroozi and Favaro, 2016, section 3.3).

    The optimiser is the Bern group's Adam, learning rate 5e-4, ×0.3 every 5 of 20 epochs, but with
    an L2 of 1e-5: with their 1e-3 the 3×3 puzzle is not learned on Fashion-MNIST (docs/results.md).
    """
    config.method.grid = 3
    config.method.tile = config.data.image_size // 3
    config.method.gap = config.method.tile // 6
    config.method.normalize_tiles = True
    config.optimizer.learning_rate = 5e-4
    config.optimizer.weight_decay = 1e-5


def rotation(config: ConfigDict) -> None:
    """All four rotations of each image (Gidaris et al., 2018, section 2.1).

    The optimiser is that of `jigsaw`, not the authors' SGD.
    """
    config.optimizer.learning_rate = 5e-4
    config.optimizer.weight_decay = 1e-5


def simclr(config: ConfigDict) -> None:
    """SimCLR (Chen et al., 2020): section 2 and appendix B.9, and the README of the authors' code.

    Up to 64 px, the CIFAR-10 recipe: batch 512, LARS with a learning rate of 1.0 per 256 images, L2
    1e-4, temperature 0.5, 1,000 epochs: 94.0 % by linear evaluation of a ResNet-50. Above, the one
    for ImageNet:
    batch 4,096, 0.3 per 256 images, L2 1e-6, temperature 0.1: 64.5 % after 100 epochs, ResNet-50.
    """
    small = config.data.image_size <= 64
    config.method.views = "simclr_small" if small else "simclr"
    if config.data.dataset in ONE_CHANNEL:
        config.method.views += "_one_channel"
    config.method.temperature = 0.5 if small else 0.1
    config.batch_size = 512 if small else 4096
    config.epochs = 1000 if small else 100
    config.validate_every_epochs = 10
    config.optimizer.name, config.optimizer.momentum = "lars", 0.9
    config.optimizer.learning_rate = 1.0 if small else 0.3
    config.optimizer.learning_rate_scaling, config.optimizer.base_batch_size = "linear", 256
    config.optimizer.weight_decay = 1e-4 if small else 1e-6
    config.optimizer.decay_biases_and_norms = False
    config.schedule.name, config.schedule.warmup_epochs = "cosine", 10


def classification(config: ConfigDict) -> None:
    """Training with labels. Adam, learning rate 1e-3, L2 1e-5, chosen on Fashion-MNIST."""
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 1e-5


ONE_CHANNEL = ("fashion_mnist_10k", "fashion_mnist")
Entry = Callable[[ConfigDict], None]
TABLES: dict[str, dict[str, Entry]] = {
    "data": {
        "fashion_mnist_10k": fashion_mnist_10k,
        "fashion_mnist": fashion_mnist,
        "deep_fashion": deep_fashion,
        "prepared": prepared,
    },
    "model": {"alexnet": alexnet, "resnet18": resnet, "resnet34": resnet, "resnet50": resnet},
    "method": {
        "jigsaw": jigsaw,
        "rotation": rotation,
        "simclr": simclr,
        "classification": classification,
    },
}
DEFAULTS = {"data": "fashion_mnist_10k", "model": "alexnet"}


def get_config(choice: str = "") -> ConfigDict:
    """The settings of a choice such as `method=jigsaw,data=fashion_mnist`."""
    chosen = parse(choice)
    config = ssljax.train_config(chosen["method"], chosen["model"])
    for table, entries in TABLES.items():
        entries[chosen[table]](config)
    return config


def parse(choice: str) -> dict[str, str]:
    """The name of each table's entry.

    Raises:
      InputError: an unknown or missing part.
    """
    chosen = dict(DEFAULTS)
    for part in filter(None, choice.split(",")):
        table, equals, name = part.partition("=")
        if table not in TABLES or not equals:
            hint = nearest(table, TABLES)
            raise InputError(f"configs/pretrain.py: {part!r} is not PART=NAME of a table; {hint}")
        if name not in TABLES[table]:
            hint = nearest(name, TABLES[table])
            raise InputError(f"configs/pretrain.py: {table}={name}: unknown; {hint}")
        chosen[table] = name
    if "method" not in chosen:
        known = ", ".join(TABLES["method"])
        raise InputError(f"configs/pretrain.py: method=NAME is missing; known: {known}")
    return chosen
