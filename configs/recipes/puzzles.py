"""Recipes for puzzles and rotations, for configs/pretrain.py."""

from ml_collections import ConfigDict

from ssljax.settings.recipe_parts import ONE_CHANNEL, set_sgd, set_steps, small


def jigsaw(config: ConfigDict) -> None:
    """3×3 puzzles, tiles with a gap and normalised (Noroozi and Favaro, 2016, section 3.3).

    The optimiser is the Bern group's Adam, learning rate 5e-4, ×0.3 every 5 of 20 epochs, but with
    an L2 of 1e-5: with their 1e-3 the 3×3 puzzle is not learned on Fashion-MNIST (docs/results.md).
    """
    config.method.grid = 3
    config.method.tile = config.data.image_size // 3
    if "patch" in config.model:  # tiles consist of whole patches
        config.method.tile -= config.method.tile % config.model.patch
    config.method.gap = config.method.tile // 6
    config.method.normalize_tiles = True
    config.optimizer.learning_rate = 5e-4
    config.optimizer.weight_decay = 1e-5


def jigsaw_permutations(config: ConfigDict) -> None:
    """100 permutations of 3×3 tiles (Noroozi and Favaro, 2016), with protections of section 3.3.

    No recipe is published for small images; this one was chosen on Fashion-MNIST, see
    configs/jigsaw_permutations.py. Above 64 px, with AlexNet the authors' settings; Goyal et al.
    (2019) report 34.8 % by linear classification. With ResNets those of VISSL, but with normalised
    tiles and without flips: 48.6 %, ResNet-50.
    """
    set_tiles(config, grey=0.3 if config.model.name == "alexnet" else 0.66)
    config.method.permutations = 100
    if small(config):
        set_small_puzzles(config)
    elif config.model.name == "alexnet":
        set_alexnets_puzzles(config)
    else:
        set_vissls_pretext(config)


def relative_patch(config: ConfigDict) -> None:
    """The centre of 3×3 tiles and its neighbours (Doersch et al., 2015; Kolesnikov et al., 2019).

    No recipe is published for small images; the optimiser is that of `jigsaw_permutations`, also
    above 64 px with AlexNet. With ResNets that of MMSelfSup, but with normalised tiles, a step of
    the learning rate after epoch 60 and not 50, and the head's weight decay not five times as
    large: 40.4 % by linear classification, ResNet-50.
    """
    set_tiles(config, grey=0.66)
    if small(config):
        config.method.hidden = 512
        set_small_puzzles(config)
    elif config.model.name == "alexnet":
        set_alexnets_puzzles(config)
    else:
        set_sgd(config, 0.1, 1e-4, batch_size=512, epochs=70)
        set_steps(config, every_epochs=30, warmup_epochs=5)


def rotation(config: ConfigDict) -> None:
    """All four rotations of each image (Gidaris et al., 2018, section 2.1).

    On small images the optimiser is that of `jigsaw`, not the authors' SGD. Above 64 px, with
    AlexNet the optimiser of the authors' code, which has 39.5 % by linear classification, their
    weights in VISSL's tables. With ResNets that of VISSL, which shows an image at one random angle:
    48.2 %, ResNet-50. Both also crop images at random and flip them.
    """
    if small(config):
        config.optimizer.learning_rate = 5e-4
        config.optimizer.weight_decay = 1e-5
    elif config.model.name == "alexnet":
        set_sgd(config, 0.01, 5e-4, batch_size=192, epochs=50)
        config.optimizer.base_batch_size, config.optimizer.nesterov = 192, True
        set_steps(config, every_epochs=15, warmup_epochs=0)
    else:
        config.method.all_turns = False
        set_vissls_pretext(config)
        config.schedule.warmup_epochs = 0


def set_tiles(config: ConfigDict, grey: float) -> None:
    """3×3 normalised tiles with a gap: 64 px of 85 (Noroozi and Favaro), or 8 px of 10.

    Tiles for AlexNet have at least 64 px, so small images are enlarged to 216 px for it. Those for
    vision transformers consist of whole patches: 64 px of 80, or 8 px of 12.
    """
    if "patch" in config.model:
        cell = 12 if small(config) else 80
        config.data.image_size, config.method.gap = 3 * cell, config.model.patch
    elif not small(config):
        config.data.image_size, config.method.gap = 255, 21
    elif config.model.name == "alexnet":
        config.data.image_size, config.method.gap = 216, 8
    else:
        config.data.image_size, config.method.gap = 30, 2
    config.method.normalize_tiles = True
    if config.data.dataset not in ONE_CHANNEL:
        config.method.grey = grey


def set_small_puzzles(config: ConfigDict) -> None:
    """Adam, half a cosine and batches of 128; chosen on Fashion-MNIST with a narrow ResNet-18."""
    config.optimizer.learning_rate, config.optimizer.weight_decay = 1e-3, 1e-5
    config.schedule.name, config.schedule.warmup_epochs = "cosine", 1
    config.batch_size, config.epochs, config.validate_every_epochs = 128, 30, 5


def set_vissls_pretext(config: ConfigDict) -> None:
    """VISSL's optimiser for pretext tasks, but for a step after epoch 100 of 105."""
    set_sgd(config, 0.1, 1e-4, batch_size=256, epochs=105)
    set_steps(config, every_epochs=30, warmup_epochs=5)
    config.optimizer.decay_biases_and_norms = False


def set_alexnets_puzzles(config: ConfigDict) -> None:
    """Noroozi and Favaro's program: 350,000 steps, a tenth of the learning rate every 100,000."""
    set_sgd(config, 0.01, 5e-4, batch_size=256, epochs=70)
    set_steps(config, every_epochs=20, warmup_epochs=0)


RECIPES = {
    "jigsaw": jigsaw,
    "jigsaw_permutations": jigsaw_permutations,
    "relative_patch": relative_patch,
    "rotation": rotation,
}
