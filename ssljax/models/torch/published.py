"""Checkpoints as the authors of methods publish them: which network they hold, and what else.

A row of the table says how the official code names tensors. The network that is taken out of a
checkpoint has the names of torchvision or timm.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ssljax.settings.errors import InputError

STUDENT = "student"
TEACHER = "teacher"
_ENCODERS = {STUDENT: "encoder_q.", TEACHER: "encoder_k."}
_NETWORKS = {STUDENT: "student.", TEACHER: "teacher."}
_BACKBONE = "backbone."  # before the backbone's names, beside those of heads
_QUEUE = {"queue": r"queue(_ptr)?"}
_SHOWN = 2  # names of each kind that are left out


@dataclasses.dataclass(frozen=True)
class Published:
    """How the official code of a method names the tensors of a checkpoint.

    Attributes:
      title: of the method.
      mark: a regular expression; a name that begins like this shows the layout.
      parts: what the names of the student and the teacher begin with; {} if there is one network.
      others: regular expressions of names that are not the backbone's, by what they are. Names
        of a student or a teacher are without its prefix.
      heads: of the attention, by the channels of a token.
    """

    title: str
    mark: str
    parts: Mapping[str, str]
    others: Mapping[str, str]
    heads: Mapping[int, int] = dataclasses.field(default_factory=dict)


# The first row with a matching mark counts.
TABLE = (
    # github.com/facebookresearch/moco-v3: moco/builder.py, vits.py
    Published(
        "MoCo v3",
        r"(base|momentum)_encoder\.",
        {STUDENT: "base_encoder.", TEACHER: "momentum_encoder."},
        {"head": r"(fc|head)\.\d+\.\w+", "predictor": r"predictor\.\d+\.\w+"},
        {384: 12, 768: 12},
    ),
    # github.com/facebookresearch/moco: moco/builder.py; v2 has an MLP as head
    Published("MoCo v2", r"encoder_[qk]\.fc\.\d", _ENCODERS, {"head": r"fc\.\d\.\w+", **_QUEUE}),
    Published("MoCo v1", r"encoder_[qk]\.", _ENCODERS, {"head": r"fc\.\w+", **_QUEUE}),
    # github.com/facebookresearch/dinov2: dinov2/models/vision_transformer.py,
    # dinov2/train/ssl_meta_arch.py
    Published(
        "DINOv2",
        r"((student|teacher)\.)?(backbone\.)?blocks\.[\d.]+\.ls1\.gamma",
        _NETWORKS,
        {
            "mask token": r"(backbone\.)?mask_token",
            "head": r"(dino|ibot)_head\.[\w.]+",
            "loss": r"(dino|ibot_patch)_loss\.\w+",
        },
        {384: 6, 768: 12, 1024: 16},
    ),
    # github.com/facebookresearch/dino: main_dino.py, utils.py (MultiCropWrapper),
    # vision_transformer.py (DINOHead)
    Published(
        "DINO",
        r"(student|teacher|backbone)\.",
        _NETWORKS,
        {"head": r"head\.(mlp|last_layer)\.[\w.]+"},
        {192: 3, 384: 6, 768: 12},
    ),
    # github.com/facebookresearch/mae: models_mae.py
    Published(
        "MAE",
        r"decoder_(embed|pos_embed|blocks|norm|pred)\b",
        {},
        {"mask token": "mask_token", "decoder": r"decoder_[\w.]+"},
        {768: 12, 1024: 16, 1280: 16},
    ),
)


class Network(NamedTuple):
    """A network that is taken out of a checkpoint.

    Attributes:
      tensors: by the names of torchvision or timm, and others that are not known.
      title: of the method and of the part, such as `MoCo v2, encoder_q`; empty if the names are
        those of torchvision or timm from the beginning.
      left_out: what else there was, for people.
      heads: see `Published`.
    """

    tensors: dict[str, np.ndarray]
    title: str
    left_out: str
    heads: Mapping[int, int]


def network_of(tensors: Mapping[str, np.ndarray], part: str, origin: str) -> Network:
    """Takes a network out of a checkpoint.

    Args:
      tensors: as `ssljax.models.torch.state_dict_files.read` returns them.
      part: `student` or `teacher`.
      origin: for messages.

    Raises:
      InputError: the checkpoint has no such part.
    """
    if part not in (STUDENT, TEACHER):
        raise InputError(f"init_part must be {STUDENT} or {TEACHER}, got {part!r}")
    row = next(
        (row for row in TABLE if any(re.match(row.mark, name) for name in tensors)),
        Published("", "", {}, {}),
    )
    origin = f"{origin} ({row.title})" if row.title else origin
    prefix = _prefix(row, tensors, part, origin)
    found, groups = {}, dict[str, list[str]]()
    for name, values in tensors.items():
        other = next((each for each, start in row.parts.items() if name.startswith(start)), part)
        if other != part:
            groups.setdefault(other, []).append(name)
            continue
        short = name.removeprefix(prefix)
        kind = next((kind for kind, each in row.others.items() if re.fullmatch(each, short)), "")
        if kind:
            groups.setdefault(kind, []).append(short)
            continue
        short = short.removeprefix(_BACKBONE) if row.title else short
        if short in found:
            raise InputError(f"{origin} has {short} twice, once within {name}")
        found[short] = values
    title = ", ".join(filter(None, (row.title, prefix.removesuffix("."))))
    return Network(found, title, _said(groups.items()), row.heads)


def _prefix(row: Published, tensors: Mapping[str, np.ndarray], part: str, origin: str) -> str:
    """What the names of the part begin with."""
    present = [
        each
        for each, prefix in row.parts.items()
        if any(name.startswith(prefix) for name in tensors)
    ]
    if part in present:
        return row.parts[part]
    if present:
        raise InputError(f"init_part: {origin} has no {part}; use init_part={present[0]}")
    if part != STUDENT:
        raise InputError(
            f"init_part: {origin} holds one network, not a student and a teacher; use "
            f"init_part={STUDENT}"
        )
    return ""


def _said(groups: Iterable[tuple[str, list[str]]]) -> str:
    """Such as `fc.0.bias, fc.0.weight, … (head), queue, queue_ptr (queue)`."""
    return ", ".join(
        f"{', '.join(names[:_SHOWN])}{', …' * (len(names) > _SHOWN)} ({kind})"
        for kind, names in groups
    )
