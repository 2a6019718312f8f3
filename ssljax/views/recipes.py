"""Recipes: the views that methods make of an image, as published.

A recipe's name may end in `_small` and `_one_channel`, in this order. `_small` is for images of up
to 64 px: without blur, which would remove most of such an image, and with weaker colours.
`_one_channel` is for images without colour: it leaves out hue, saturation and grey.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from ssljax.settings.errors import InputError, nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """How a view is made; the operations come in the order of the fields.

    Attributes:
      crop: the least and the largest share of the image's area that a random resized crop covers.
        Its aspect ratio is 3/4 to 4/3. None takes the square at the centre.
      bicubic: resize so, and not bilinearly. Both are antialiased.
      pad: cut the view at a random place after padding it with so many black pixels.
      flip: the probability of a horizontal flip.
      colour: the strengths of brightness, contrast, saturation and hue. A strength s means a factor
        from max(0, 1 - s) to 1 + s, or a shift of the hue from -s to s turns; 0 leaves it out.
      colour_probability: of all four together, in random order.
      grey: the probability of grey.
      blur: the probability of a Gaussian blur.
      sigma: the range of its standard deviation, in pixels.
      solarize: the probability that values from 0.5 on are inverted.
    """

    crop: tuple[float, float] | None = (0.08, 1.0)
    bicubic: bool = False
    pad: int = 0
    flip: float = 0.5
    colour: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    colour_probability: float = 0.8
    grey: float = 0.0
    blur: float = 0.0
    sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0

    @property
    def uses_colour(self) -> bool:
        """Whether an operation does nothing useful to images without colour."""
        return any(self.colour[2:]) or self.grey > 0


@dataclasses.dataclass(frozen=True)
class Group:
    """Views of one size.

    Attributes:
      views: one for each view.
      share: their side, as a share of the full one.
    """

    views: tuple[View, ...]
    share: float = 1.0

    def side(self, image_size: int) -> int:
        """The side of the views in pixels, given `config.data.image_size`."""
        return max(1, round(self.share * image_size))


Recipe = Mapping[str, Group]  # by the name of the group: `global`, and `local` in multi-crop

_SMALL_LOCAL = 96 / 224  # the side of the small crops in multi-crop

# Chen et al. (2020), "A Simple Framework for Contrastive Learning of Visual Representations",
# appendix A.
_SIMCLR = View(bicubic=True, colour=(0.8, 0.8, 0.8, 0.2), grey=0.2, blur=0.5)

# Chen et al. (2020), "Improved Baselines with Momentum Contrastive Learning", and its official
# code, which crops from 20 % of the area on. SimSiam uses the same.
_MOCO_V2 = View(crop=(0.2, 1.0), colour=(0.4, 0.4, 0.4, 0.1), grey=0.2, blur=0.5)

# Grill et al. (2020), "Bootstrap Your Own Latent", appendix B: two different views. The brightness
# and the pivot of the contrast are torchvision's; the official code differs.
_BYOL = (
    View(bicubic=True, colour=(0.4, 0.4, 0.2, 0.1), grey=0.2, blur=1.0),
    View(bicubic=True, colour=(0.4, 0.4, 0.2, 0.1), grey=0.2, blur=0.1, solarize=0.2),
)

# Chen, Xie and He (2021), "An Empirical Study of Training Self-Supervised Vision Transformers", and
# the commands for ResNet-50 in CONFIG.md of the official code: BYOL's views, other crops.
_MOCO_V3 = tuple(dataclasses.replace(view, crop=(0.2, 1.0), bicubic=False) for view in _BYOL)
# Its commands for ViTs.
_MOCO_V3_VIT = tuple(dataclasses.replace(view, bicubic=False) for view in _BYOL)

# Caron et al. (2020), "Unsupervised Learning of Visual Features by Contrasting Cluster
# Assignments", section 4.1 and the official code.
_SWAV = View(crop=(0.14, 1.0), colour=(0.8, 0.8, 0.8, 0.2), grey=0.2, blur=0.5)
_SWAV_LOCAL = dataclasses.replace(_SWAV, crop=(0.05, 0.14))

# Caron et al. (2021), "Emerging Properties in Self-Supervised Vision Transformers", and the
# official code: BYOL's views, and local ones of their own.
_DINO = tuple(dataclasses.replace(view, crop=(0.4, 1.0)) for view in _BYOL)
_DINO_LOCAL = dataclasses.replace(_BYOL[0], crop=(0.05, 0.4), blur=0.5)
# Its README: for ResNet-50, and for training without local views.
_DINO_RESNET = tuple(dataclasses.replace(view, crop=(0.14, 1.0)) for view in _BYOL)
_DINO_RESNET_LOCAL = dataclasses.replace(_DINO_LOCAL, crop=(0.05, 0.14))

# Zhou et al. (2022), "iBOT: Image BERT Pre-Training with Online Tokenizer", and the README of the
# official code: DINO's views, other crops.
_IBOT = tuple(dataclasses.replace(view, crop=(0.25, 1.0)) for view in _DINO)
_IBOT_LOCAL = dataclasses.replace(_DINO_LOCAL, crop=(0.05, 0.25))

# He et al. (2022), "Masked Autoencoders Are Scalable Vision Learners", section 4 and the official
# code: no colours.
_MAE = View(crop=(0.2, 1.0), bicubic=True)

# Assran et al. (2023), "Self-Supervised Learning from Images with a Joint-Embedding Predictive
# Architecture", and the official configs: crops only.
_IJEPA = View(crop=(0.3, 1.0), flip=0.0)

# The usual augmentation of supervised training on ImageNet, and of linear classification and
# fine-tuning there (Szegedy et al., 2015, "Going Deeper with Convolutions"; torchvision's).
_SUPERVISED = View()

# The usual augmentation of supervised training on CIFAR-10 (He et al. 2016, section 4.2).
_PADDING_CROP = View(crop=None, pad=4)

_RECIPES: dict[str, Recipe] = {
    "simclr": {"global": Group((_SIMCLR, _SIMCLR))},
    "moco_v2": {"global": Group((_MOCO_V2, _MOCO_V2))},
    "moco_v3": {"global": Group(_MOCO_V3)},
    "moco_v3_vit": {"global": Group(_MOCO_V3_VIT)},
    "byol": {"global": Group(_BYOL)},
    # Bardes et al. (2022), "VICReg", appendix C.1, and the official code: BYOL's two views.
    "vicreg": {"global": Group(_BYOL)},
    "swav": {"global": Group((_SWAV,) * 2), "local": Group((_SWAV_LOCAL,) * 6, _SMALL_LOCAL)},
    "dino": {"global": Group(_DINO), "local": Group((_DINO_LOCAL,) * 8, _SMALL_LOCAL)},
    "dino_resnet": {
        "global": Group(_DINO_RESNET),
        "local": Group((_DINO_RESNET_LOCAL,) * 8, _SMALL_LOCAL),
    },
    "ibot": {"global": Group(_IBOT), "local": Group((_IBOT_LOCAL,) * 10, _SMALL_LOCAL)},
    "mae": {"global": Group((_MAE,))},
    "ijepa": {"global": Group((_IJEPA,))},
    "supervised": {"global": Group((_SUPERVISED,))},
    "padding_crop": {"global": Group((_PADDING_CROP,))},
}

# Local views of small images would have a few pixels; nobody publishes results with them.
_SMALL_RECIPES: dict[str, Recipe] = {
    "swav": {"global": Group((_SWAV,) * 2)},
    "dino": {"global": Group(_DINO_RESNET)},
    "dino_resnet": {"global": Group(_DINO_RESNET)},
    "ibot": {"global": Group(_DINO_RESNET)},
}

# SimCLR's colours at the strength 0.5 that its authors use for CIFAR-10 (appendix B.9). Recipes
# with weaker ones keep them, as the CIFAR-10 configs of solo-learn do.
_SMALL_COLOUR = (0.4, 0.4, 0.4, 0.1)

SMALL, ONE_CHANNEL = "_small", "_one_channel"
_VARIANTS = ("", SMALL, ONE_CHANNEL, SMALL + ONE_CHANNEL)
NAMES = tuple(_RECIPES)  # without the variants
RECIPES = tuple(name + variant for name in _RECIPES for variant in _VARIANTS)


def recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
      InputError: there is none; the nearest name is given.
    """
    if name not in RECIPES:
        raise InputError(f"unknown recipe of views {name!r}; {nearest(name, RECIPES)}")
    base = name.removesuffix(ONE_CHANNEL)
    if small := base.endswith(SMALL):
        base = base.removesuffix(SMALL)
    found = _SMALL_RECIPES.get(base, _RECIPES[base]) if small else _RECIPES[base]
    if small:
        found = _mapped(found, _small)
    return _mapped(found, _one_channel) if name.endswith(ONE_CHANNEL) else found


def _mapped(groups: Recipe, change: Callable[[View], View]) -> Recipe:
    return {
        name: dataclasses.replace(group, views=tuple(map(change, group.views)))
        for name, group in groups.items()
    }


def _small(view: View) -> View:
    brightness, contrast, saturation, hue = map(min, view.colour, _SMALL_COLOUR)
    return dataclasses.replace(view, blur=0.0, colour=(brightness, contrast, saturation, hue))


def _one_channel(view: View) -> View:
    return dataclasses.replace(view, grey=0.0, colour=(*view.colour[:2], 0.0, 0.0))
