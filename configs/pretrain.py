r"""Any method on any data with any model.

    python -m ssljax.train --config=configs/pretrain.py:method=jigsaw,data=fashion_mnist \
        --workdir=RUN

The argument names entries of three tables, in any order: `method` (needed), `data` (default:
fashion_mnist_10k) and `model` (default: alexnet, or vit_tiny for methods that need patches). An
entry is a function that sets what differs from the defaults, and its docstring names the source.
The data's entry is applied first, then the model's, then the method's. Those of puzzles, of methods
with masked patches, and of `moco` and `dino` for vision transformers are in configs/recipes.
"""

import runpy
from collections.abc import Callable

from ml_collections import ConfigDict

import ssljax
from ssljax.settings import config_files
from ssljax.settings.errors import InputError, nearest
from ssljax.settings.recipe_parts import (
    ONE_CHANNEL,
    set_lars,
    set_lightlys_cifar,
    set_sgd,
    set_views,
    small,
    start_as_identity,
)

RECIPES = config_files.shipped() / "recipes"  # also for a copy of this file elsewhere
FOR_VITS = runpy.run_path(str(RECIPES / "vision_transformers.py"))["RECIPES"]


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


def vit(config: ConfigDict) -> None:
    """ViT (Dosovitskiy et al., 2021) as timm has it; up to 64 px with patches of 4 px.

    Fashion-MNIST keeps its 28 px: 7×7 patches. Larger images have patches of 16 px, and become a
    little smaller if they do not consist of whole ones.
    """
    if config.data.dataset in ONE_CHANNEL:
        config.data.image_size = 28
    config.model.patch = 4 if config.data.image_size <= 64 else 16
    config.data.image_size -= config.data.image_size % config.model.patch


# ----------------------------------------------------------------------------------------- method
def simclr(config: ConfigDict) -> None:
    """SimCLR (Chen et al., 2020): section 2 and appendix B.9, and the README of the authors' code.

    Up to 64 px, the CIFAR-10 recipe: 94.0 % by linear evaluation of a ResNet-50. Above, the one for
    ImageNet: 64.5 % after 100 epochs, ResNet-50.
    """
    set_views(config, "simclr")
    if small(config):
        config.method.temperature = 0.5
        set_lars(config, 1.0, 1e-4, batch_size=512, epochs=1000)
    else:
        config.method.temperature = 0.1
        set_lars(config, 0.3, 1e-6, batch_size=4096, epochs=100)


def moco(config: ConfigDict) -> None:
    """MoCo v3 (Chen, Xie and He, 2021).

    Up to 64 px, after solo-learn's CIFAR-10 recipe, which reaches 93.1 % by an online linear
    classifier with ResNet-18; there the learning rate is a cap on LARS's ratio. Above, CONFIG.md of
    the authors' code: 68.9 % by linear evaluation after 100 epochs, ResNet-50.
    """
    if "patch" in config.model:
        FOR_VITS["moco"](config)
        return
    start_as_identity(config)
    if small(config):
        set_views(config, "byol")
        config.method.temperature = 0.2
        set_lars(config, 0.3, 1e-6, batch_size=256, epochs=1000)
        config.optimizer.trust_coefficient = 0.02
    else:
        set_views(config, "moco_v3")
        set_lars(config, 0.6, 1e-6, batch_size=4096, epochs=100)


def moco_v2(config: ConfigDict) -> None:
    """MoCo v2 (Chen, Fan, Girshick and He, 2020).

    Up to 64 px, lightly's CIFAR-10 recipe, with SimCLR's views: 83.8 % by kNN, ResNet-18; lightly's
    loss is over both directions. Above, the authors' code: 67.5 % by linear evaluation after 200
    epochs, ResNet-50.
    """
    if small(config):
        set_views(config, "simclr")
        config.method.temperature, config.method.momentum = 0.1, 0.99
        config.method.queue, config.method.hidden, config.method.group = 4096, 512, 16
        set_lightlys_cifar(config)
    else:
        set_views(config, "moco_v2")
        set_sgd(config, 0.03, 1e-4, batch_size=256, epochs=200)


def byol(config: ConfigDict) -> None:
    """BYOL (Grill et al., 2020).

    Up to 64 px, lightly's CIFAR-10 recipe: 86.9 % by kNN, ResNet-18. Its loss is a quarter of ours,
    which a quarter of the learning rate makes up for, and its momentum stays 0.99. Above, the
    authors' settings for 100 epochs. Published are 74.4 % by linear evaluation after 1,000 epochs,
    ResNet-50.
    """
    set_views(config, "byol")
    config.method.momentum = 0.99
    if small(config):
        config.method.hidden = 1024
        set_lightlys_cifar(config)
        config.optimizer.learning_rate /= 4
        config.optimizer.weight_decay *= 4
    else:
        set_lars(config, 0.45, 1e-6, batch_size=4096, epochs=100)


def simsiam(config: ConfigDict) -> None:
    """SimSiam (Chen and He, 2021): section 4 and appendix D.

    Up to 64 px, the CIFAR-10 recipe: 91.8 % by linear evaluation after 800 epochs, ResNet-18.
    Above, the one for ImageNet: 68.1 % after 100 epochs, ResNet-50.
    """
    set_views(config, "moco_v2")
    start_as_identity(config)
    if small(config):
        config.method.projector_layers = 2
        set_sgd(config, 0.03, 5e-4, batch_size=512, epochs=800)
    else:
        set_sgd(config, 0.05, 1e-4, batch_size=512, epochs=100)


def barlow_twins(config: ConfigDict) -> None:
    """Barlow Twins (Zbontar et al., 2021).

    Up to 64 px, lightly's CIFAR-10 recipe: 84.2 % by kNN, ResNet-18. Above, the authors' code: 73.5
    % by linear evaluation after 1,000 epochs, ResNet-50. Its learning rate for biases is divided by
    16, since its gradients are too small by the number of devices.
    """
    set_views(config, "byol")
    start_as_identity(config)
    if small(config):
        config.method.projection, config.method.layers = 2048, 2
        config.method.off_diagonal = 0.005
        set_lightlys_cifar(config)
    else:
        set_lars(config, 0.2, 1e-6, batch_size=2048, epochs=1000)
        config.method.bias_learning_rate = 0.0048 / 16 / 0.2
        config.schedule.final = 0.001


def vicreg(config: ConfigDict) -> None:
    """VICReg (Bardes, Ponce and LeCun, 2022).

    Up to 64 px, after solo-learn's CIFAR-10 recipe, which reaches 92.1 % by an online linear
    classifier with ResNet-18; its variance counts twice, its learning rate is a cap on LARS's
    ratio, and it has views of its own. Above, the authors' code: 73.2 % by linear evaluation after
    1,000 epochs, ResNet-50.
    """
    set_views(config, "vicreg")
    start_as_identity(config)
    if small(config):
        config.method.projection = 2048
        set_lars(config, 0.3, 1e-4, batch_size=256, epochs=1000)
        config.optimizer.trust_coefficient = 0.02
    else:
        set_lars(config, 0.2, 1e-6, batch_size=2048, epochs=1000)
        config.schedule.final = 0.001


def swav(config: ConfigDict) -> None:
    """SwAV (Caron et al., 2020).

    Up to 64 px, lightly's CIFAR-10 recipe with 128 prototypes; with its 512, 81.2 % by kNN,
    ResNet-18, without frozen prototypes. Above, the authors' code for batches of 256, with a queue
    after epoch 15 of 200: 72.7 % by linear evaluation, ResNet-50.
    """
    set_views(config, "swav")
    if small(config):
        config.method.prototypes, config.method.hidden = 128, 512
        set_lightlys_cifar(config)
        config.optimizer.name, config.optimizer.learning_rate = "adam", 2e-3
        config.optimizer.weight_decay = 1e-6
    else:
        config.method.queue, config.method.queue_start = 3840, 15 / 200
        set_lars(config, 0.6, 1e-6, batch_size=256, epochs=200)
        config.optimizer.decay_biases_and_norms, config.schedule.final = True, 0.001
        config.schedule.warmup_epochs = 0


def dino(config: ConfigDict) -> None:
    """DINO (Caron et al., 2021).

    Up to 64 px, lightly's CIFAR-10 recipe with 128 prototypes; with its 2,048, 84.0 % by kNN,
    ResNet-18. There the momentum stays 0.99, and prototypes are not frozen. Above, the command for
    ResNet-50 in the README of the authors' code. Their published ResNet-50 (75.3 % by linear
    evaluation) was trained for longer.
    """
    if "patch" in config.model:
        FOR_VITS["dino"](config)
        return
    if small(config):
        set_views(config, "dino")
        config.method.prototypes, config.method.momentum = 128, 0.99
        config.method.batch_norm, config.method.layers = True, 2
        set_lightlys_cifar(config)
    else:
        set_views(config, "dino_resnet")
        set_sgd(config, 0.03, 1e-4, batch_size=512, epochs=100)
        config.optimizer.decay_biases_and_norms, config.optimizer.clip_norm = False, 3.0
        config.schedule.warmup_epochs = 10


def classification(config: ConfigDict) -> None:
    """Training with labels. Adam, learning rate 1e-3, L2 1e-5, chosen on Fashion-MNIST."""
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 1e-5


Entry = Callable[[ConfigDict], None]
TABLES: dict[str, dict[str, Entry]] = {
    "data": {
        "fashion_mnist_10k": fashion_mnist_10k,
        "fashion_mnist": fashion_mnist,
        "deep_fashion": deep_fashion,
        "prepared": prepared,
    },
    "model": {
        "alexnet": alexnet,
        **dict.fromkeys(("resnet10", "resnet18", "resnet34", "resnet50"), resnet),
        **dict.fromkeys(("vit_tiny", "vit_small", "vit_base"), vit),
    },
    "method": {
        **runpy.run_path(str(RECIPES / "puzzles.py"))["RECIPES"],
        **runpy.run_path(str(RECIPES / "masked_patches.py"))["RECIPES"],
        "simclr": simclr,
        "moco": moco,
        "moco_v2": moco_v2,
        "byol": byol,
        "simsiam": simsiam,
        "barlow_twins": barlow_twins,
        "vicreg": vicreg,
        "swav": swav,
        "dino": dino,
        "classification": classification,
    },
}
DEFAULTS = {"data": "fashion_mnist_10k", "model": "alexnet"}
NEED_PATCHES = ("ibot", "ijepa", "mae")


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
    if chosen.get("method") in NEED_PATCHES and "model=" not in choice:
        chosen["model"] = "vit_tiny"
    if "method" not in chosen:
        known = ", ".join(TABLES["method"])
        raise InputError(f"configs/pretrain.py: method=NAME is missing; known: {known}")
    return chosen
