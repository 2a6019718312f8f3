"""Optimisers and schedules that several published recipes share, for config files."""

from __future__ import annotations

from ml_collections import ConfigDict


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


def set_lightlys_cifar(config: ConfigDict) -> None:
    """Lightly's benchmark on CIFAR-10: 200 epochs with batches of 128."""
    set_sgd(config, 0.12, 5e-4, batch_size=128, epochs=200)
