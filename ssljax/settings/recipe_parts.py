"""What several published recipes share, for config files."""

from __future__ import annotations

from ml_collections import ConfigDict

ONE_CHANNEL = ("fashion_mnist_10k", "fashion_mnist")  # data sets


def small(config: ConfigDict) -> bool:
    """Whether the images are so small that recipes for CIFAR-10 suit them, also if enlarged."""
    return config.data.image_size <= 64 or config.data.dataset in ONE_CHANNEL


def set_views(config: ConfigDict, name: str) -> None:
    """The variant of a recipe of views that suits the images; validation every 10 epochs."""
    config.method.views = name + "_small" * small(config)
    if config.data.dataset in ONE_CHANNEL:
        config.method.views += "_one_channel"
    config.validate_every_epochs = 10


def start_as_identity(config: ConfigDict) -> None:
    """Each residual block of a ResNet begins as the identity, as the authors' code has it."""
    if "zero_init_residual" in config.model:
        config.model.zero_init_residual = True


def set_lars(
    config: ConfigDict, learning_rate: float, weight_decay: float, batch_size: int, epochs: int
) -> None:
    """LARS with a learning rate per 256 images, 10 epochs of warm-up, then half a cosine."""
    set_sgd(config, learning_rate, weight_decay, batch_size, epochs)
    config.optimizer.name = "lars"
    config.optimizer.decay_biases_and_norms = False
    config.schedule.warmup_epochs = 10


def set_sgd(
    config: ConfigDict, learning_rate: float, weight_decay: float, batch_size: int, epochs: int
) -> None:
    """SGD with a learning rate per 256 images, and half a cosine."""
    config.optimizer.name, config.optimizer.momentum = "sgd", 0.9
    config.optimizer.learning_rate, config.optimizer.weight_decay = learning_rate, weight_decay
    config.optimizer.learning_rate_scaling, config.optimizer.base_batch_size = "linear", 256
    config.schedule.name = "cosine"
    config.batch_size, config.epochs = batch_size, epochs


def set_adamw(
    config: ConfigDict, learning_rate: float, weight_decay: float, batch_size: int, epochs: int
) -> None:
    """AdamW with a learning rate per 256 images, and half a cosine."""
    set_sgd(config, learning_rate, weight_decay, batch_size, epochs)
    config.optimizer.name, config.optimizer.momentum = "adamw", 0.0
    config.optimizer.decay_biases_and_norms = False


def set_dinos_vit(config: ConfigDict, batch_size: int, epochs: int) -> None:
    """DINO's settings for vision transformers, which are also iBOT's.

    AdamW, whose weight decay rises from 0.04 to 0.4; the learning rate falls to 1e-6.
    """
    config.model.initializer, config.model.drop_path = "normal", 0.1
    set_adamw(config, 5e-4, 0.04, batch_size, epochs)
    config.optimizer.clip_norm = 3.0
    config.schedule.warmup_epochs = 10
    config.schedule.final = 1e-6 * 256 / (5e-4 * batch_size)
    config.schedule.weight_decay, config.schedule.final_weight_decay = "cosine", 0.4


def set_steps(config: ConfigDict, every_epochs: int, warmup_epochs: float) -> None:
    """A tenth of the learning rate after each of so many epochs."""
    config.schedule.name, config.schedule.every_epochs = "step", every_epochs
    config.schedule.factor, config.schedule.warmup_epochs = 0.1, warmup_epochs


def set_lightlys_cifar(config: ConfigDict) -> None:
    """Lightly's benchmark on CIFAR-10: 200 epochs with batches of 128."""
    set_sgd(config, 0.12, 5e-4, batch_size=128, epochs=200)
