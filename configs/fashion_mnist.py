"""Does the puzzle help, and when? The Bern group's question on the full Fashion-MNIST.

    python -m ssljax.study --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist

Needs TFDS's `fashion_mnist` as ArrayRecord (docs/data.md). 42,000 images without labels for the
pretext tasks, 15,000 with labels, 3,000 for validation, the 10,000 of `test` for the table. AlexNet
at a quarter of its width on images of 108 pixels. Takes a good two hours on two cores; what came
out, and how to use both cores, is in docs/results_alexnet.md. A part of it by its name:

    python -m ssljax.study --config=configs/fashion_mnist.py:few_labels --workdir=runs/few_labels
    python -m ssljax.train --config=configs/fashion_mnist.py:slides_3x3 --workdir=runs/slides_3x3
"""

from ml_collections import ConfigDict

from ssljax import arm_config, setting_config, study_config, train_config

EPOCHS = 12  # of the better puzzle
PRETEXT_IMAGES = 42_000
CONVOLUTIONS = "backbone/conv*"


def get_config(part: str = "study") -> ConfigDict:
    """The study, or a part of it.

    Args:
      part: `study`: the slides' puzzles, a better one, and how much of it is needed. `few_labels`:
        the 2×2 puzzle against random weights with 1 % of the labels, three seeds. The name of a
        pretext task, or `classification`: that training run alone.
    """
    study = _study()
    runs = {**study.pretexts, "classification": study.classification}
    if part in runs:
        return runs[part]
    if part == "few_labels":
        study.seeds = 3
        study.label_fractions, study.label_epochs = (0.01,), (100,)
        _keep(study.pretexts, "slides_2x2")
        _keep(study.arms, "random", "slides_2x2")
    elif part != "study":
        known = ", ".join(("study", "few_labels", *runs))
        raise ValueError(f"configs/fashion_mnist.py:{part} is not one of {known}")
    return study


def _keep(config: ConfigDict, *names: str) -> None:
    for name in set(config) - set(names):
        del config[name]


def _study() -> ConfigDict:
    config = study_config()
    config.label_fractions = (1.0, 0.1, 0.05, 0.01)
    config.label_epochs = (15, 30, 60, 100)
    config.reference_setting = "slides"
    config.settings.slides = setting_config(learning_rate=1e-4, weight_decay=1e-3)
    config.settings.fast = setting_config(learning_rate=1e-3, weight_decay=1e-5)

    config.classification = _on_fashion_mnist(train_config("classification"))
    config.classification.data.train_split = "train[70%:95%]"
    config.classification.epochs = 15
    config.classification.schedule.every_epochs = 4
    config.arms.random = arm_config("random")

    for name, grid in (("slides_2x2", 2), ("slides_3x3", 3)):
        # Fewer epochs than the slides' 20, for time.
        config.pretexts[name] = _puzzle(grid, gap=0, weight_decay=1e-3, epochs=6)
        config.arms[name] = arm_config(name, init_layers=CONVOLUTIONS)

    config.pretexts.better = _better()
    config.arms.better = arm_config("better")
    config.arms.better.axes = ConfigDict(
        {"pretext epochs": EPOCHS, "pretext images": PRETEXT_IMAGES}
    )
    for epochs in (2, 5):
        name = f"better_{epochs}_epochs"
        config.pretexts[name] = _better()
        config.pretexts[name].epochs = epochs
        config.arms[name] = _at_five_percent(arm_config(name))
        config.arms[name].axes = ConfigDict({"pretext epochs": epochs})
    for percent in (10, 30):
        name = f"better_{percent}_percent_of_the_images"
        config.pretexts[name] = _better()
        config.pretexts[name].data.train_split = f"train[:{70 * percent // 100}%]"
        config.arms[name] = _at_five_percent(arm_config(name))
        config.arms[name].axes = ConfigDict({"pretext images": PRETEXT_IMAGES * percent // 100})
    return config


def _better() -> ConfigDict:
    """A puzzle that cannot be solved by matching edges or brightness, and whose L2 is small."""
    return _puzzle(3, gap=6, normalize_tiles=True, weight_decay=1e-5, epochs=EPOCHS)


def _puzzle(
    grid: int, *, gap: int, weight_decay: float, epochs: int, normalize_tiles: bool = False
) -> ConfigDict:
    config = _on_fashion_mnist(train_config("jigsaw"))
    config.method.grid, config.method.tile = grid, config.data.image_size // grid
    config.method.gap, config.method.normalize_tiles = gap, normalize_tiles
    config.epochs = epochs
    config.optimizer.learning_rate = 5e-4
    config.optimizer.weight_decay = weight_decay
    return config


def _at_five_percent(arm: ConfigDict) -> ConfigDict:
    arm.label_fractions, arm.settings = (0.05,), ("fast",)
    return arm


def _on_fashion_mnist(config: ConfigDict) -> ConfigDict:
    config.data.dataset = "fashion_mnist"
    config.data.train_split = "train[:70%]"
    config.data.validation_split = "train[95%:]"
    config.data.test_split = "test"
    config.data.image_size = 108
    config.data.cache = "ram"
    config.model.width = 0.25
    return config
