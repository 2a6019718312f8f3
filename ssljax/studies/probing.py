"""Probes of a study's pretext runs, and of random weights of the same networks."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Collection
from typing import Annotated, Any

import msgspec
from ml_collections import ConfigDict

from ssljax.files import storage, untrusted
from ssljax.files.packed_bits import unpacked
from ssljax.methods import make_method
from ssljax.runs.run import data_spec
from ssljax.settings.errors import InputError
from ssljax.settings.messages import say

Rows = list[dict[str, Any]]
FILE = "probes.json"
_REMEDY = "the run is probed again"
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Row(msgspec.Struct):
    """What is needed of a row of `ssljax.probe`."""

    probe: str
    weights: str
    label_fraction: _Share
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**32)]
    top1: _Share
    class_mean: _Share
    examples: int
    hits: str
    top3: _Share = 0.0  # of more than three classes
    top5: _Share = 0.0
    k: int | None = None
    l2: float | None = None

    def __post_init__(self) -> None:
        """Checks what types do not say."""
        unpacked(self.hits, self.examples)
        if self.k is None and self.l2 is None:
            raise ValueError("it has neither k nor l2")


@dataclasses.dataclass(frozen=True)
class Probing:
    """What is probed of a pretext run, on the images of the study's classification.

    Attributes:
      options: of `ssljax.probe`, as JSON values.
      floor: whether random weights of the network are probed, too, with the seed of the run.
    """

    options: dict[str, Any]
    floor: bool


def plan(config: ConfigDict, name: str, failed: Collection[str] = ()) -> Probing | None:
    """How a pretext run is probed; None if the study has no probes.

    Random weights are probed once for each network and size of the images, with the first pretext
    task that has it and did not fail.

    Args:
      config: of the study.
      name: of the pretext task.
      failed: names of pretext tasks whose runs failed.
    """
    if not config.probes:
        return None
    data = config.classification.data
    options = {
        "probes": list(config.probes),
        "label_fractions": [float(fraction) for fraction in config.label_fractions],
        "draws": config.probe_draws,
        "dataset": data.dataset,
        "data_dir": data.data_dir,
        "image_key": data.image_key,
        "label_key": data.label_key,
        **{f"{split}_split": data[f"{split}_split"] for split in ("train", "validation", "test")},
    }
    first = next((other for other in same_network(config, name) if other not in failed), "")
    return Probing(options, floor=first == name)


def same_network(config: ConfigDict, name: str) -> list[str]:
    """The pretext tasks with a pretext task's network and size of the images, itself included."""
    own = _network(config.pretexts[name])
    return [other for other, run in config.pretexts.items() if _network(run) == own]


def _network(run: ConfigDict) -> tuple[str, int]:
    """The backbone, and the side of the images that it sees."""
    data = run.data
    # The number of classes has no influence.
    model = json.dumps([run.model.to_dict(), *data.mean, *data.std], sort_keys=True)
    return model, make_method(run.method, data_spec(run, 2)).image_size


def finish(
    probing: Probing, probe: Callable[..., Rows], folder: pathlib.Path, step: int, seed: int
) -> Rows:
    """The rows of `ssljax.probe` for a finished run; they are kept in its folder.

    Args:
      probing: what to probe.
      probe: that function.
      folder: of the run.
      step: of the checkpoint that the run hands over.
      seed: of random weights.
    """
    if (known := kept(probing, folder, step)) is not None:
        return known
    rows = probe(folder, **probing.options)
    if probing.floor:
        rows += probe(folder, **probing.options, random=True, first_seed=seed)
    storage.write_json(folder / FILE, {"asked": _asked(probing, step), "rows": rows})
    return rows


def kept(probing: Probing, folder: pathlib.Path, step: int) -> Rows | None:
    """The rows that are in the folder already; None if they are not, or of something else.

    Rows of random weights that are not asked for are left out.
    """
    file = folder / FILE
    try:
        found = untrusted.read_json(file, dict[str, Any], _REMEDY)
        with_floor = dataclasses.replace(probing, floor=True)
        if found.get("asked") in (_asked(probing, step), _asked(with_floor, step)):
            untrusted.convert(found.get("rows"), list[_Row])
            rows = found["rows"]
            return [row for row in rows if probing.floor or row["weights"] != "random"]
    except FileNotFoundError:
        pass
    except (InputError, ValueError) as error:
        say(f"{file}: {error}; {_REMEDY}")
    return None


def _asked(probing: Probing, step: int) -> dict[str, Any]:
    return {**dataclasses.asdict(probing), "step": step}
