r"""The slides' classification on the other 30 % of DeepFashion.

    python -m ssljax.train --config=configs/classification.py --workdir=runs/random
    python -m ssljax.train --config=configs/classification.py --workdir=runs/pretext \
        --config.init_from=runs/jigsaw_3x3

The first starts from random weights, the second from the pretext run's convolutions. Needs
`deep_fashion/slides`, prepared as docs/data.md says. Adam, learning rate 1e-4, ×0.3 every 5 of 20
epochs, L2 1e-3, batch 64: slides, "Training". Published there: 52.2 % top-1 from random weights.
"""

from ml_collections import ConfigDict

from ssljax.config import train_config


def get_config() -> ConfigDict:
    """The slides' settings."""
    config = train_config()
    config.task = ConfigDict({"name": "classification"})
    config.data.dataset = "deep_fashion/slides"
    return config
