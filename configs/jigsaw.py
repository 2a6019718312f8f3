"""The Bern group's pretext task: solve a 2×2 or 3×3 puzzle on 70 % of DeepFashion.

    python -m ssljax.train --config=configs/jigsaw.py:3x3 --workdir=runs/jigsaw_3x3

Needs `deep_fashion/slides`, prepared as docs/data.md says. Adam, learning rate 5e-4, ×0.3 every 5
of 20 epochs, L2 1e-3, batch 64: slides, "Training". Not run on DeepFashion by us.
"""

from ml_collections import ConfigDict

import ssljax

TILES = {"2x2": (2, 113), "3x3": (3, 75)}  # the slides' grids and tile sizes


def get_config(grid: str = "3x3") -> ConfigDict:
    """The settings for a grid, `2x2` or `3x3`."""
    if grid not in TILES:
        raise ValueError(f"configs/jigsaw.py:{grid} is not one of {', '.join(TILES)}")
    config = ssljax.train_config("jigsaw", "alexnet")
    config.method.grid, config.method.tile = TILES[grid]
    config.data.dataset = "deep_fashion/slides"
    config.data.train_split = "pretext_train"
    config.data.validation_split = "pretext_validation"
    config.data.test_split = "pretext_test"
    config.optimizer.learning_rate = 5e-4
    return config
