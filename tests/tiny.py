"""A config for tests: a network of 4 channels on 200 images.

tests/tiny.py:METHOD            AlexNet on 64 px
tests/tiny.py:METHOD,small_net  the backbone of tests/plugin.py on 32 px, which compiles faster

Methods that need tokens of patches get a small ViT on 32 px in both cases.
"""

from ml_collections import ConfigDict

from ssljax import train_config
from ssljax.methods import METHODS

OPTIONS = {
    "jigsaw": {"grid": 2, "gap": 2, "shortcuts": False},
    "jigsaw_permutations": {"grid": 2, "gap": 2, "permutations": 8, "hidden": 16, "grey": 0.5,
                            "colour_shift": 1, "normalize_tiles": True, "shortcuts": False},
    "relative_patch": {"gap": 2, "hidden": 16, "grey": 0.5, "shortcuts": False},
    "simclr": {"views": "simclr_small_one_channel", "temperature": 0.5},
    "moco": {"temperature": 0.2, "views": "byol_small_one_channel", "hidden": 16, "projection": 8},
    "moco_v2": {"views": "moco_v2_small_one_channel", "hidden": 16, "projection": 8, "queue": 64,
                "group": 8, "momentum": 0.97},
    "byol": {"views": "byol_small_one_channel", "hidden": 16, "projection": 8, "momentum": 0.9},
    "simsiam": {"views": "moco_v2_small_one_channel", "projection": 16, "hidden": 8},
    "barlow_twins": {"views": "byol_small_one_channel", "projection": 16, "loss_scale": 0.1},
    "vicreg": {"views": "vicreg_small_one_channel", "projection": 16},
    "swav": {"views": "swav_small_one_channel", "prototypes": 12, "hidden": 16, "projection": 8,
             "queue": 64, "freeze_prototypes": 0.5},
    "dino": {"views": "dino_one_channel", "prototypes": 12, "hidden": 16, "bottleneck": 8,
             "freeze_prototypes": 0.5, "momentum": 0.9, "temperature_warmup": 0.5,
             "batch_norm": True},
    "ibot": {"views": "ibot_small_one_channel", "prototypes": 12, "hidden": 16, "bottleneck": 8,
             "freeze_prototypes": 0.5, "momentum": 0.99, "centre_momentum": 0.5,
             "temperature_warmup": 0.5, "first_teacher_temperature": 0.08,
             "teacher_temperature": 0.1, "first_teacher_patch_temperature": 0.08,
             "teacher_patch_temperature": 0.1, "shared_head": False, "norm_last_layer": False},
    "mae": {"views": "mae_small_one_channel", "decoder_embed_dim": 16, "decoder_depth": 1,
            "decoder_num_heads": 2},
    "ijepa": {"views": "ijepa_small_one_channel", "predictor_embed_dim": 16, "predictor_depth": 1,
              "predictor_num_heads": 2, "momentum": 0.9},
}  # fmt: skip
SIZES = {"jigsaw_permutations": 132, "relative_patch": 198}  # AlexNet needs tiles of 64 px


def get_config(choice: str = "jigsaw") -> ConfigDict:
    method, _, model = choice.partition(",")
    if model:
        import tests.plugin  # noqa: F401, adds it to the tables

    if needs_tokens := method in METHODS and METHODS[method].needs_tokens:
        model = "vit_tiny"
    config = train_config(method, model or "alexnet")
    config.data.dataset = "fashion_mnist_10k"
    config.data.train_split = "images[:200]"
    config.data.validation_split = "images[200:300]"
    config.data.test_split = "images[300:433]"
    config.data.image_size = 32 if model else SIZES.get(method, 64)
    config.method.update(OPTIONS.get(method, {}))
    if method == "jigsaw":
        config.method.tile = config.data.image_size // 2
    if needs_tokens:
        config.model.update(width=1 / 6, heads=2, depth=2, patch=8)
        config.model.update(METHODS[method].needs_model)
    if not model:
        config.model.width = 0.0625
        config.init_layers = "backbone/conv*"
    config.batch_size = 32
    config.epochs = 2
    config.optimizer.learning_rate = 1e-3
    config.log_every_steps = 3
    config.probes.map_images = 0  # takes longer than the training
    return config


def drop(config: ConfigDict) -> None:
    """Lets a config's network leave out parts at random."""
    config.model["dropout" if "dropout" in config.model else "drop_path"] = 0.1
