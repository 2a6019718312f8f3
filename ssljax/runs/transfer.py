"""Starting from weights that another run or PyTorch has trained."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from ml_collections import ConfigDict

from ssljax.devices.parallelism import place
from ssljax.files import storage, untrusted
from ssljax.methods import method_class
from ssljax.models import paths, positions
from ssljax.models.torch import description, layouts, state_dict_files
from ssljax.runs.contamination import check_lineage_apart
from ssljax.runs.folder import read_config
from ssljax.runs.saved_checkpoints import SavedCheckpoints
from ssljax.settings.errors import InputError


@dataclasses.dataclass(frozen=True)
class Source:
    """Weights to start from.

    Attributes:
      params: nested dicts by part.
      stats: batch statistics, in the same form; {} if there are none.
      origin: where they came from, for people.
      left_out: what else was there, for people.
    """

    params: dict[str, Any]
    stats: dict[str, Any]
    origin: str
    left_out: str = ""


class _Report(msgspec.Struct):
    """What is needed of init.json, see `transfer`."""

    fingerprint: str
    origin: str = msgspec.field(name="from")


def load_source(config: ConfigDict) -> Source:
    """Reads the weights that `config.init_from` and `config.init_part` name.

    Raises:
      InputError: it is neither a run with such a checkpoint nor a readable file of weights, or
        its attention has another number of heads.
    """
    path = storage.path(config.init_from, "init_from")
    if state_dict_files.is_named_so(path):
        if storage.is_remote(path):
            raise InputError(f"init_from: {path}: weight files must be on a disk; copy it there")
        return _load_file(path, config)
    if not path.is_dir():
        raise InputError(
            f"init_from: {path} is neither a run folder nor a file of weights "
            f"({', '.join(state_dict_files.SUFFIXES)})"
        )
    source = read_config(path)
    check_heads(source, config, str(path))
    check_lineage_apart(source, config)
    method = source.method.name
    checkpoints = SavedCheckpoints(path)
    kind, step, saved = checkpoints.read(
        checkpoints.handed_over(method_class(method).hand_over),
        lambda kind, step: (
            kind,
            step,
            checkpoints.restore_as_saved(kind, step, ("params", "stats", "teacher")),
        ),
    )
    origin = f"{path} ({method}, {kind}, step {step})"
    if config.init_part == "teacher":
        if not saved["teacher"]:
            raise InputError(f"init_part: {path} has no teacher; use init_part=student")
        teacher = saved["teacher"]
        return Source(teacher["params"], teacher.get("stats", {}), f"the teacher of {origin}")
    return Source(saved["params"], saved["stats"], origin)


def _load_file(path: pathlib.Path, config: ConfigDict) -> Source:
    found = layouts.read_file(path, config.init_part)
    origin = f"{path} ({found.title})" if found.title else str(path)
    _check_heads(found.heads or description.read(path).heads, config, origin)
    return Source(*found.weights, origin, found.left_out)


def check_heads(source: ConfigDict, config: ConfigDict, origin: str) -> None:
    """Checks what the shapes of weights do not say: the heads of the attention.

    Args:
      source: the config of the run that the weights come from.
      config: of the run that starts from them.
      origin: of the weights, for the message.

    Raises:
      InputError: the networks have different numbers of heads.
    """
    _check_heads(source.model.get("heads", 0), config, origin)


def _check_heads(heads: int | None, config: ConfigDict, origin: str) -> None:
    """The same for a number of heads, if it is known."""
    if heads and config.model.get("heads", heads) != heads:
        raise InputError(
            f"model.heads: the attention of {origin} has {heads} heads; use model.heads={heads} "
            f"instead of {config.model.heads}"
        )


def choose(params: Any, source: Any, patterns: str) -> set[str]:
    """The paths of the parameters that are transferred; looks at shapes only.

    Learned positions may be those of another image size: they are interpolated. If the source has
    fixed ones, learning goes on from these.

    Args:
      params: new parameters, or their shapes.
      source: parameters to transfer, or their shapes.
      patterns: `config.init_layers`, see `ssljax.models.paths.match`.

    Raises:
      InputError: a pattern matches nothing, or a parameter is missing or has another shape.
    """
    ours, theirs = paths.shapes(params), paths.shapes(source)
    chosen = paths.match(patterns, ours, "init_layers")
    if not chosen:
        raise InputError("init_layers is empty, so nothing of init_from would be loaded")
    for path in sorted(chosen):
        if _is_positions(path) and positions.fits(theirs.get(path), ours[path]):
            continue
        if path not in theirs:
            raise InputError(f"init_layers: the source has no {path}")
        if ours[path] != theirs[path]:
            raise InputError(
                f"init_from: {path} is {theirs[path]} in the source and {ours[path]} in this "
                "model; leave it out of init_layers, or give both the same model settings"
            )
    return chosen


def transfer(
    params: Any, stats: Any, source: Source, patterns: str
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Replaces new parameters, and their batch statistics, with those of a source.

    Args:
      params: new parameters, on the devices.
      stats: new batch statistics, on the devices.
      source: what to transfer.
      patterns: see `choose`.

    Returns:
      Parameters, statistics, and a report: the paths of the parameters that were `loaded` or are
      `fresh`, and of the source's that were `skipped`; `from` and `fingerprint` of the source,
      and what was `left_out` of its file.

    Raises:
      InputError: see `choose`.
    """
    chosen = choose(params, source.params, patterns)
    layers = {path.rpartition("/")[0] for path in chosen}
    ours, theirs = paths.flatten(params), paths.flatten(source.params)
    our_stats, their_stats = paths.flatten(stats), paths.flatten(source.stats)
    for path in filter(_is_positions, chosen):
        if path not in theirs or theirs[path].shape != ours[path].shape:
            theirs[path] = positions.carried(theirs.get(path), ours[path].shape)
    # A normalisation without scale and bias has statistics alone.
    named = paths.match(patterns, our_stats, "init_layers", may_miss=True)
    chosen_stats = {path for path in our_stats if path.rpartition("/")[0] in layers} | named
    if missing := sorted(chosen_stats - set(their_stats)):
        raise InputError(f"init_layers: the source has no {missing[0]}")

    def replaced(old: dict[str, Any], new: dict[str, Any], paths_: set[str]) -> dict[str, Any]:
        return paths.unflatten(
            {
                path: place(new[path], leaf.sharding) if path in paths_ else leaf
                for path, leaf in old.items()
            }
        )

    report = {
        "loaded": [path for path in ours if path in chosen],
        "fresh": [path for path in ours if path not in chosen],
        "skipped": [path for path in theirs if path not in chosen],
        "from": source.origin,
        "fingerprint": fingerprint(source, patterns),
        **({"left_out": source.left_out} if source.left_out else {}),
    }
    return (
        replaced(ours, theirs, chosen),
        replaced(our_stats, their_stats, chosen_stats),
        report,
    )


def _is_positions(path: str) -> bool:
    return path.rpartition("/")[2] == positions.NAME


def fingerprint(source: Source, patterns: str) -> str:
    """A hash of what is transferred, which tells whether two runs started from the same weights."""
    digest = hashlib.sha256()
    leaves = paths.flatten(source.params)
    # The source may lack positions, which are fixed there.
    for path in sorted(paths.match(patterns, leaves, "init_layers", may_miss=True)):
        leaf = np.asarray(leaves[path])
        digest.update(f"{path} {leaf.shape} {leaf.dtype} ".encode() + leaf.tobytes())
    return digest.hexdigest()


def check_same_start(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Checks that a run that continues was started from what `init_from` names now.

    Raises:
      InputError: it was started from something else.
    """
    try:
        report = untrusted.read_json(workdir / "init.json", _Report, "repair it")
    except FileNotFoundError:
        report = None
    if not config.init_from and report is None:
        return
    if report is None or not config.init_from:
        was = "random weights" if report is None else report.origin
        raise InputError(
            f"--workdir: {workdir} was started from {was}, not from "
            f"{config.init_from or 'random weights'}; name another folder"
        )
    if not storage.path(config.init_from, "init_from").exists():
        return  # it is not needed any more
    source = load_source(config)
    if fingerprint(source, config.init_layers) != report.fingerprint:
        raise InputError(
            f"--workdir: {workdir} was started from {report.origin}, and {source.origin} holds "
            "other weights; name another folder, or remove this one to train it again"
        )


def describe(report: Mapping[str, Any]) -> list[str]:
    """The report as text, a line for each outcome."""
    outcomes = ("loaded", "fresh", "skipped")
    lines = [
        f"initial weights from {report['from']}:",
        *(f"  {what:8} {', '.join(report[what])}" for what in outcomes),
    ]
    if "left_out" in report:
        lines.append(f"  left out {report['left_out']}")
    return lines
