r"""What a pretrained run is worth, by training with labels as the field does.

    python -m ssljax.train --config=configs/evaluate.py:protocol=linear,model=resnet18 \
        --config.init_from=RUN --workdir=RUN-linear

`protocol` is `linear` (a linear classifier on the frozen backbone) or `finetune` (all weights).
`data` and `model` are those of configs/pretrain.py. Give the image size and the width of the run
that `init_from` names, if they differ. The learning rate is to be chosen on validation data: the
run's page and `metrics.jsonl` have the accuracies.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from ml_collections import ConfigDict

from ssljax.settings import config_files
from ssljax.settings.errors import InputError, nearest

PRETRAIN = pathlib.Path(__file__).parent / "pretrain.py"


def linear(config: ConfigDict) -> None:
    """A classifier on the frozen backbone, whose batch statistics are the stored ones.

    Source: evaluate.py of the official code of Zbontar et al. (2021), "Barlow Twins": 100 epochs of
    SGD, half a cosine, learning rate 0.3 for a batch of 256. VICReg's has the same, but its
    published result has 0.02.
    """
    config.frozen_layers = "backbone"
    config.epochs, config.batch_size = 100, 256
    config.validate_every_epochs = 5
    _set_sgd(config, learning_rate=0.3, weight_decay=1e-6)


def finetune(config: ConfigDict) -> None:
    """All weights are trained.

    Source: Chen et al. (2020), "SimCLR", appendix B.5, for 10 % of the labels: 30 epochs of SGD
    with Nesterov's momentum, learning rate 0.05 for each 256 images of the batch, no weight decay,
    no warm-up. For 1 % they train 60 epochs: --config.data.label_fraction=0.01 --config.epochs=60.

    Vision transformers: He et al. (2022), "Masked Autoencoders", appendix A.1 and the official
    code, for ViT-B: 100 epochs of AdamW with layer-wise decay, mixup, CutMix and drop path, without
    its RandAugment and random erasing. There the batch is 1,024.
    """
    if config.model.name.startswith("vit"):
        _set_maes(config)
        return
    config.epochs, config.batch_size = 30, 256
    _set_sgd(config, learning_rate=0.05, weight_decay=0.0)
    config.optimizer.nesterov = True


def _set_maes(config: ConfigDict) -> None:
    """MAE's fine-tuning of ViT-B."""
    config.epochs, config.batch_size = 100, 256
    config.optimizer.name, config.optimizer.layer_decay = "adamw", 0.65
    config.optimizer.learning_rate, config.optimizer.weight_decay = 5e-4, 0.05
    config.optimizer.learning_rate_scaling, config.optimizer.base_batch_size = "linear", 256
    config.optimizer.decay_biases_and_norms = False
    config.schedule.name, config.schedule.warmup_epochs = "cosine", 5
    config.method.views, config.method.label_smoothing = "supervised", 0.1
    config.method.mixup, config.method.cutmix = 0.8, 1.0
    config.model.drop_path, config.model.pool = 0.1, "avg"


def _set_sgd(config: ConfigDict, learning_rate: float, weight_decay: float) -> None:
    """SGD with a learning rate per 256 images, half a cosine, random resized crops and flips."""
    config.optimizer.name, config.optimizer.momentum = "sgd", 0.9
    config.optimizer.learning_rate, config.optimizer.weight_decay = learning_rate, weight_decay
    config.optimizer.learning_rate_scaling, config.optimizer.base_batch_size = "linear", 256
    config.schedule.name = "cosine"
    config.method.views = "supervised"


PROTOCOLS: dict[str, Callable[[ConfigDict], None]] = {"linear": linear, "finetune": finetune}


def get_config(choice: str = "") -> ConfigDict:
    """The settings of a choice such as `protocol=linear,model=resnet18`."""
    parts = [part for part in choice.split(",") if part]
    name = next((part.partition("=")[2] for part in parts if part.startswith("protocol=")), "")
    if name not in PROTOCOLS:
        raise InputError(
            f"configs/evaluate.py: protocol={name or 'NAME'}: {nearest(name, PROTOCOLS)}"
        )
    rest = [part for part in parts if not part.startswith("protocol=")]
    if any(part.startswith("method=") for part in rest):
        raise InputError("configs/evaluate.py: the method is classification; name a protocol only")
    config = config_files.load(f"{PRETRAIN}:{','.join(['method=classification', *rest])}")
    PROTOCOLS[name](config)
    return config
