r"""The Bern group's classification on the other 30 % of DeepFashion.

    python -m ssljax.train --config=configs/classification.py --workdir=runs/random
    python -m ssljax.train --config=configs/classification.py --workdir=runs/pretext \
        --config.init_from=runs/jigsaw_3x3

The first starts from random weights, the second from the convolutions of the pretext run. Needs
`deep_fashion/slides`, prepared as docs/data.md says. Adam, learning rate 1e-4, ×0.3 every 5 of 20
epochs, L2 1e-3, batch 64: slides, "Training". Published: 52.2 % top-1 from random weights. Not run
on DeepFashion by us.
"""

from ml_collections import ConfigDict

import ssljax


def get_config() -> ConfigDict:
    """The slides' settings."""
    config = ssljax.train_config("classification", "alexnet")
    config.data.dataset = "deep_fashion/slides"
    config.init_layers = "backbone/conv*"
    return config
