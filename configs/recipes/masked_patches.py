"""Recipes for methods that mask patches of vision transformers, for configs/pretrain.py."""

from ml_collections import ConfigDict

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


RECIPES = {"ibot": ibot, "mae": mae}
