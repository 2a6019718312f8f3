"""Recipes for methods that mask patches of vision transformers, for configs/pretrain.py."""

from ml_collections import ConfigDict

from ssljax.models import model_class
from ssljax.models.vit import ViT
from ssljax.settings.recipe_parts import set_adamw, set_dinos_vit, set_views, small


def mae(config: ConfigDict) -> None:
    """MAE (He et al., 2022).

    Up to 64 px, after solo-learn's CIFAR-10 recipe for ViT-S, for which no result is published; its
    crops cover 8 % of the image at least. With vit_tiny the decoder is smaller. Above, the authors'
    code with its default of 400 epochs: OpenMMLab reports 62.5 % by linear evaluation and 83.3 % by
    fine-tuning, ViT-B.
    """
    set_views(config, "mae")
    if "positions" in config.model:
        config.model.positions = "sincos"
    if small(config):
        set_adamw(config, 2e-4, 0.05, batch_size=256, epochs=1000)
        config.schedule.warmup_epochs = 10
        if config.model.name == "vit_tiny":
            config.method.decoder_embed_dim, config.method.decoder_num_heads = 128, 4
            config.method.decoder_depth = 4
    else:
        set_adamw(config, 1.5e-4, 0.05, batch_size=4096, epochs=400)
        config.schedule.warmup_epochs = 40
    config.optimizer.b2 = 0.95


def ijepa(config: ConfigDict) -> None:
    """I-JEPA (Assran et al., 2023).

    Above 64 px, the authors' config for ViT-H/14, 300 epochs; they publish none for smaller
    networks, and no accuracy beside it. The predictor has 6 blocks and half of the backbone's
    channels. Up to 64 px, no recipe is published: the same with batches of 256, as long as the one
    of `mae`.
    """
    set_views(config, "ijepa")
    model = model_class(config.model.name)
    if issubclass(model, ViT):
        config.model.update(class_token=False, pool="avg", positions="sincos", initializer="normal")
        config.method.predictor_embed_dim = model.channels_of(config.model.width) // 2
        config.method.predictor_num_heads = config.model.heads
    if small(config):
        set_adamw(config, 1.25e-4, 0.04, batch_size=256, epochs=1000)
        config.schedule.warmup_epochs = 10
    else:
        set_adamw(config, 1.25e-4, 0.04, batch_size=2048, epochs=300)
        config.schedule.warmup_epochs = 40
    config.schedule.final = 0.001
    config.schedule.weight_decay, config.schedule.final_weight_decay = "cosine", 0.4


def ibot(config: ConfigDict) -> None:
    """Image BERT pre-training with online tokenizer, iBOT (Zhou et al., 2022).

    Up to 64 px, the authors' settings without local views, with a slower teacher, as they advise
    for batches of 256, and 4,096 prototypes; no result is published. Above, the command for ViT-S
    in the README of the authors' code: 75.2 % by kNN, 77.9 % by linear evaluation after 800 epochs.
    """
    set_views(config, "ibot")
    config.method.teacher_temperature, config.method.temperature_warmup = 0.07, 30 / 800
    config.method.norm_last_layer = False
    if "patch" not in config.model:  # an error that names the right models follows
        return
    if small(config):
        config.method.prototypes, config.method.momentum = 4096, 0.9995
        set_dinos_vit(config, batch_size=256, epochs=800)
    else:
        set_dinos_vit(config, batch_size=1024, epochs=800)


RECIPES = {"ibot": ibot, "ijepa": ijepa, "mae": mae}
