"""Which method gives the best features? Studies of many methods under one protocol.

    python -m ssljax.study --config=configs/methods.py --workdir=runs/methods
    python -m ssljax.study --config=configs/methods.py:simclr+byol+rotation --workdir=runs/other

These train a ResNet-18 of an eighth of the width on 6,000 images of the data set that comes with
the package. Features are probed, and the whole network is fine-tuned, with 1,000 labels and with
100. Random weights are beside them.

    python -m ssljax.study --config=configs/methods.py:settings --workdir=runs/settings
    python -m ssljax.study --config=configs/methods.py:table --workdir=runs/table
    python -m ssljax.study --config=configs/methods.py:suspects --workdir=runs/suspects
    python -m ssljax.study --config=configs/methods.py:resnet10 --workdir=runs/resnet10
    python -m ssljax.study --config=configs/methods.py:alexnet --workdir=runs/alexnet
    python -m ssljax.study --config=configs/methods.py:vit --workdir=runs/vit

These are for TFDS's `fashion_mnist` as ArrayRecord (docs/data.md). 42,000 images have no labels,
15,000 have, settings are chosen on 3,000, and the 10,000 of `test` are for the table. `settings`
trains each method with two learning rates for two epochs, and probes on the 3,000; what it chose is
in `CHOSEN`. `table` trains each method for six epochs, with three seeds for some of them by
`--only=METHOD --seed=N`, and the best one also for 24. `suspects` varies one thing at a time for
the puzzle and for SimCLR: the puzzle's shortcuts, the depth of the network, the number of images
(in as many steps), and the epochs; what it is compared with is in `table`. `resnet10` fine-tunes a
network of half the depth from the best method and from random weights. `alexnet` trains the puzzles
with AlexNet, and `vit` methods with a small vision transformer for three epochs; each has its own
random weights beside it. What came out is in docs/results.md.
"""

import pathlib

from ml_collections import ConfigDict

import ssljax
from ssljax.settings import config_files

HERE = pathlib.Path(__file__).parent
DEFAULT = "rotation+simclr+vicreg"
EPOCHS = 6
METHODS = (
    "jigsaw", "jigsaw_permutations", "relative_patch", "rotation", "simclr", "moco", "moco_v2",
    "byol", "simsiam", "barlow_twins", "vicreg", "swav", "dino",
)  # fmt: skip
FACTORS = (1, 3)  # of the recipe's learning rate
CHOSEN = dict.fromkeys(("relative_patch", "rotation", "simclr", "byol", "simsiam", "dino"), 3)
PUZZLES = ("jigsaw", "jigsaw_permutations", "relative_patch")
FOR_VITS: dict[str, dict[str, float]] = {  # with heads that fit a small network
    "mae": {"decoder_embed_dim": 64, "decoder_depth": 2},
    "moco": {"hidden": 512},
    "dino": {"prototypes": 1024, "momentum": 0.99},
    "ibot": {"prototypes": 1024, "momentum": 0.99},
    "ijepa": {"predictor_embed_dim": 48},
}
FRACTIONS, LABEL_EPOCHS = (1.0, 0.1, 0.05, 0.01), (15, 30, 60, 100)
BETWEEN, BETWEEN_EPOCHS = (0.5, 0.25), (20, 25)  # more labels for random weights
BEST, LONGER = "vicreg", 24  # the best of them by its probes, and more epochs for it
FINE_TUNED = ("jigsaw", "simclr", "moco", BEST, f"{BEST}_longer", "supervised")  # beside random


def get_config(part: str = DEFAULT) -> ConfigDict:
    """A study: one of `STUDIES`, or methods separated by `+` on the embedded images."""
    return STUDIES[part]() if part in STUDIES else _small(part.split("+"))


def _small(methods: list[str]) -> ConfigDict:
    config = ssljax.study_config()
    config.probes = ("knn", "linear")
    config.label_fractions, config.label_epochs = (1.0, 0.1), (15, 40)
    config.classification = _pretext("classification", "fashion_mnist_10k")
    config.classification.data.train_split = "images[60%:70%]"
    _set_classification(config.classification, epochs=20)
    config.arms.random = ssljax.arm_config("random")
    for name in methods:
        config.pretexts[name] = _pretext(name, "fashion_mnist_10k")
        config.pretexts[name].data.train_split = "images[:60%]"
        config.pretexts[name].model.width = 0.125
        config.arms[name] = ssljax.arm_config(name)
    config.classification.model.width = 0.125
    return config


def _settings() -> ConfigDict:
    config = _on_fashion_mnist()
    config.probes, config.label_fractions = ("knn",), (1.0,)
    config.classification.data.test_split = config.classification.data.validation_split
    config.arms.random = ssljax.arm_config("random")
    for name in METHODS:
        for factor in FACTORS:
            run = config.pretexts[f"{name}_x{factor}"] = _pretext(name, epochs=2)
            run.optimizer.learning_rate *= factor
    return config


def _table() -> ConfigDict:
    config = _with_more_labels_for_random_weights()
    config.seeds = 3
    for name in METHODS:
        config.pretexts[name] = _chosen(name)
    config.pretexts[f"{BEST}_longer"] = _chosen(BEST, epochs=LONGER)
    config.pretexts.supervised = _pretext("classification")
    for name in FINE_TUNED:
        config.arms[name] = ssljax.arm_config(name)
        config.arms[name].label_fractions = FRACTIONS
    return config


def _suspects() -> ConfigDict:
    config = _on_fashion_mnist()
    config.probes, config.label_fractions = ("knn", "linear"), (1.0, 0.01)
    config.label_epochs = (15, 100)
    config.arms.random = ssljax.arm_config("random")
    runs = config.pretexts
    runs["jigsaw shortcuts"] = _chosen("jigsaw")
    runs["jigsaw shortcuts"].method.update(gap=0, normalize_tiles=False)
    for method in ("jigsaw", "simclr"):
        for model in ("alexnet", "resnet10"):
            runs[f"{method} {model}"] = _chosen(method, model)
        for percent in (10, 30):
            run = runs[f"{method} {percent} percent"] = _chosen(method, epochs=600 // percent)
            run.data.train_split = f"train[:{70 * percent // 100}%]"
        for epochs in (3, 12):
            runs[f"{method} {epochs} epochs"] = _chosen(method, epochs=epochs)
    return config


def _resnet10() -> ConfigDict:
    config = _with_more_labels_for_random_weights("resnet10")
    config.pretexts[BEST] = _chosen(BEST, "resnet10")
    config.arms[BEST] = ssljax.arm_config(BEST)
    config.arms[BEST].label_fractions = FRACTIONS
    return config


def _alexnet() -> ConfigDict:
    config = _beside_random_weights("alexnet")
    for name in PUZZLES:
        config.pretexts[name] = _chosen(name, "alexnet")
    return config


def _vit() -> ConfigDict:
    config = _beside_random_weights("vit_tiny")
    for name, options in FOR_VITS.items():
        run = config.pretexts[name] = _pretext(name, model="vit_tiny", epochs=3)
        run.method.update(options)
        run.batch_size, run.optimizer.learning_rate = 128, 1e-3
        run.model.patch = 4 if name == "mae" else 7
        run.model.drop_path = 0.0
    return config


STUDIES = {
    "settings": _settings, "table": _table, "suspects": _suspects, "resnet10": _resnet10,
    "alexnet": _alexnet, "vit": _vit,
}  # fmt: skip


def _with_more_labels_for_random_weights(model: str = "resnet18") -> ConfigDict:
    config = _beside_random_weights(model)
    config.label_fractions = (*FRACTIONS, *BETWEEN)
    config.label_epochs = (*LABEL_EPOCHS, *BETWEEN_EPOCHS)
    config.settings.fast = ssljax.setting_config(learning_rate=3e-3, weight_decay=1e-5)
    config.settings.slow = ssljax.setting_config(learning_rate=1e-3, weight_decay=1e-5)
    return config


def _beside_random_weights(model: str) -> ConfigDict:
    config = _on_fashion_mnist(model)
    config.probes, config.label_fractions = ("knn", "linear"), FRACTIONS
    config.label_epochs = LABEL_EPOCHS
    config.arms.random = ssljax.arm_config("random")
    return config


def _chosen(method: str, model: str = "resnet18", epochs: int = EPOCHS) -> ConfigDict:
    run = _pretext(method, model=model, epochs=epochs)
    run.optimizer.learning_rate *= CHOSEN.get(method, 1)
    # The schedule keeps its form in shorter and longer trainings.
    run.schedule.every_epochs = max(1, run.schedule.every_epochs * epochs // EPOCHS)
    run.schedule.warmup_epochs = epochs / EPOCHS
    return run


def _on_fashion_mnist(model: str = "resnet18") -> ConfigDict:
    config = ssljax.study_config()
    config.classification = _pretext("classification", model=model)
    config.classification.data.train_split = "train[70%:95%]"
    _set_classification(config.classification, epochs=LABEL_EPOCHS[0])
    return config


def _set_classification(config: ConfigDict, epochs: int) -> None:
    config.batch_size, config.epochs = 64, epochs
    config.schedule.name, config.schedule.warmup_epochs = "cosine", 0
    config.validate_every_epochs = 5


def _pretext(
    method: str, data: str = "fashion_mnist", model: str = "resnet18", epochs: int = EPOCHS
) -> ConfigDict:
    """Training a network on images without labels, with the method's recipe."""
    choice = f"method={method},model={model},data={data}"
    config = config_files.load(f"{HERE}/pretrain.py:{choice}")
    if data == "fashion_mnist":
        config.data.train_split = "train[:70%]"
    if model == "vit_tiny":
        config.model.width, config.model.depth, config.model.heads = 0.5, 6, 3
    elif data == "fashion_mnist" and model != "alexnet":
        config.model.stem, config.model.width = "strided", 0.25
    if "gap" not in config.method and model != "alexnet":  # both have sizes of their own
        config.data.image_size = 28
    config.batch_size = 256
    config.epochs = config.validate_every_epochs = epochs
    config.schedule.warmup_epochs = min(1, epochs / 6)
    return config
