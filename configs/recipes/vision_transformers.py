"""Recipes for vision transformers of methods that compare views, for configs/pretrain.py."""

from ml_collections import ConfigDict

from ssljax.settings.recipe_parts import set_adamw, set_dinos_vit, set_views, small


def moco(config: ConfigDict) -> None:
    """MoCo v3 (Chen, Xie and He, 2021): the projection of patches is not trained.

    Up to 64 px, after solo-learn's ImageNet-100 recipe for ViT-S, for which no result is published.
    Above, CONFIG.md of the authors' code: 73.2 % by linear evaluation, ViT-S with 12 heads, and
    76.7 % with ViT-B.
    """
    config.method.temperature = 0.2
    config.method.projector_layers, config.method.predictor_norm = 3, True
    config.model.positions, config.model.freeze_patch_embed = "sincos", True
    if config.model.name == "vit_small":
        config.model.heads = 12
    if small(config):
        set_views(config, "byol")
        set_adamw(config, 3e-4, 0.1, batch_size=512, epochs=400)
        config.schedule.warmup_epochs = 10
    else:
        set_views(config, "moco_v3_vit")
        set_adamw(config, 1.5e-4, 0.1, batch_size=4096, epochs=300)
        config.schedule.warmup_epochs = 40
    config.optimizer.decay_biases_and_norms = True


def dino(config: ConfigDict) -> None:
    """DINO (Caron et al., 2021).

    Up to 64 px, the authors' optimiser, with the views, batches, 4,096 prototypes and momentum of
    solo-learn's CIFAR-10 recipe for ResNet-18; no result is published. Above, the authors' "vanilla
    training" of 100 epochs: 69.3 % by kNN, ViT-S.
    """
    set_views(config, "dino")
    if small(config):
        config.method.prototypes, config.method.momentum = 4096, 0.9995
        set_dinos_vit(config, batch_size=256, epochs=1000)
    else:
        set_dinos_vit(config, batch_size=512, epochs=100)


RECIPES = {"moco": moco, "dino": dino}
