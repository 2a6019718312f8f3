"""The settings of a study, and their checks."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from ssljax.methods import method_class
from ssljax.probes import PROBES
from ssljax.runs.config import check_train_config, complete, train_config, train_fields
from ssljax.settings.errors import InputError, nearest
from ssljax.settings.options import check_group, defaults, option, options, same_kind


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """The settings of a study that belong to no group."""

    seeds: int = option(
        1,
        "repeat everything, pretext tasks included, with seed, seed + 1, …",
        above=0,
        at_most=1000,
    )
    label_fractions: tuple[float, ...] = option(
        (1.0,), "train every arm on each of these shares of the labels"
    )
    label_epochs: tuple[int, ...] = option(
        (), "epochs at each of these shares; empty: those of `classification`"
    )
    reference_setting: str = option(
        "", "the setting that is run with every seed; empty: the alphabetically first"
    )
    probes: tuple[str, ...] = option(
        (), "`knn`, `linear` or both: probe every pretext task at each of label_fractions"
    )
    probe_draws: int = option(
        5, "of the labels, for each share below 1, when probing", above=0, at_most=1000
    )
    weights_file: str = option(
        "", "of PyTorch, for arms that start from it; without it they are left out"
    )


@dataclasses.dataclass(frozen=True)
class ArmSettings:
    """`config.arms.NAME.*`: one downstream arm."""

    start: str = option("random", "`random`, `weights_file`, or a name in `pretexts`")
    init_layers: str = option("backbone", "parameters to transfer: comma-separated path patterns")
    frozen_layers: str = option("", "parameters that are not trained: comma-separated patterns")
    published: str = option("", "the published result to compare with: a name in `published`")
    label_fractions: tuple[float, ...] = option((), "shares of the labels; empty: the study's")
    settings: tuple[str, ...] = option((), "settings to choose from; empty: all of the study's")


@dataclasses.dataclass(frozen=True)
class Setting:
    """`config.settings.NAME.*`: learning rate and weight decay that arms choose from."""

    learning_rate: float = option(1e-4, "of the optimiser", above=0)
    weight_decay: float = option(1e-3, "of the optimiser", at_least=0)


_GROUPS = ("pretexts", "classification", "arms", "settings", "published")


def study_config() -> ConfigDict:
    """A study's settings; a config file fills in `pretexts`, `classification` and `arms`.

    `published` has results to compare with, by name: metrics such as `top1`, as shares. Its entry
    `source` says where they come from, and `dataset` the data set that they belong to: studies of
    others do not show them.

    With `settings`, each arm chooses one at each share of the labels, on validation data, with the
    first seed. Without, all arms have the settings of `classification`.
    """
    config = defaults(StudySettings)
    config.pretexts = ConfigDict()  # training configs by name
    config.classification = train_config("classification")
    config.arms = ConfigDict()  # arms by name, see `arm_config`
    config.settings = ConfigDict()  # by name, see `setting_config`
    config.published = ConfigDict()
    return config


def arm_config(start: str = "random", published: str = "", init_layers: str = "") -> ConfigDict:
    """One downstream arm of a study.

    Args:
      start: `random`, `weights_file`, or a name in `pretexts`.
      published: the name of a published result to compare with, or empty.
      init_layers: what to transfer; empty is the whole backbone.
    """
    config = defaults(ArmSettings)
    config.start, config.published = start, published
    if init_layers:
        config.init_layers = init_layers
    # Quantities in which the arms of a chart differ, such as {"pretext epochs": 5}.
    config.axes = ConfigDict()
    return config


def setting_config(learning_rate: float = 1e-4, weight_decay: float = 1e-3) -> ConfigDict:
    """A setting that a study's arms choose from."""
    return ConfigDict({"learning_rate": learning_rate, "weight_decay": weight_decay})


def complete_study(config: ConfigDict) -> ConfigDict:
    """A copy in which settings that were left out have their defaults.

    Raises:
      InputError: a run of the study names an unknown method or model.
    """
    if "arms" not in config:
        raise InputError("--config: this is a run's config; run it with `python -m ssljax.train`")
    config = config.copy_and_resolve_references().unlock()
    for key, value in study_config().items():
        if key not in config:
            config[key] = value
    for name, run in _runs(config):
        try:
            completed = complete(run)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        if name == "classification":
            config.classification = completed
        else:
            config.pretexts[name] = completed
    for arm in config.arms.values():
        for key, value in arm_config().items():
            if key not in arm:
                arm[key] = value
    return config


def described(config: ConfigDict) -> tuple[ConfigDict, dict[str, dataclasses.Field[Any]]]:
    """A config of a study, complete and checked, and its options by key.

    Raises:
      InputError: see `complete_study` and `check_study_config`.
    """
    config = complete_study(config)
    check_study_config(config)
    fields = options(StudySettings)
    groups = [(f"arms.{name}", options(ArmSettings)) for name in config.arms]
    groups += [(f"settings.{name}", options(Setting)) for name in config.settings]
    groups += [("classification", train_fields(config.classification))]
    groups += [(f"pretexts.{name}", train_fields(run)) for name, run in config.pretexts.items()]
    for group, own in groups:
        fields |= {f"{group}.{name}": field for name, field in own.items()}
    return config, fields


def _runs(config: ConfigDict) -> list[tuple[str, ConfigDict]]:
    return [*config.pretexts.items(), ("classification", config.classification)]


def check_study_config(config: ConfigDict) -> None:
    """Checks the settings of a complete study, including those of its runs.

    Raises:
      InputError: names the key and what would be right.
    """
    own = {key: value for key, value in config.items() if key not in _GROUPS}
    for key in own:
        if key not in options(StudySettings):
            known = [*options(StudySettings), *_GROUPS]
            raise InputError(f"unknown key {key}; {nearest(key, known)}")
    check_group(own, StudySettings, group="")
    _check_fractions(config)
    if len(config.label_epochs) not in (0, len(config.label_fractions)):
        raise InputError(
            f"label_epochs must have one entry for each of label_fractions "
            f"{config.label_fractions}, got {config.label_epochs}"
        )
    for name in config.probes:
        if name not in PROBES:
            raise InputError(f"probes: {name!r} is unknown; {nearest(name, PROBES)}")
    if not config.arms:
        raise InputError("arms: a study needs at least one")
    for group in ("pretexts", "arms", "settings"):
        for name in config[group]:
            _check_name(group, name)
    for name, run in _runs(config):
        try:
            check_train_config(run)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    if config.classification.init_from:
        raise InputError("classification.init_from: in a study, the arms name what they start from")
    if not method_class(config.classification.method.name).names_classes:
        raise InputError(
            f"classification.method.name: {config.classification.method.name!r} does not classify"
        )
    for name, setting in config.settings.items():
        check_group(setting, Setting, group=f"settings.{name}")
    if config.reference_setting and config.reference_setting not in config.settings:
        hint = nearest(config.reference_setting, config.settings)
        raise InputError(f"reference_setting: {config.reference_setting!r}; {hint}")
    _check_published(config.published)
    for name, arm in config.arms.items():
        _check_arm(config, name, arm)


def _check_fractions(config: ConfigDict) -> None:
    fractions = config.label_fractions
    if not fractions:
        raise InputError("label_fractions must have at least one share, such as (1.0, 0.1)")
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise InputError(
                f"label_fractions must be > 0 and <= 1 (0.1 is 10 %), got {fraction:g}"
            )
    if len({f"{fraction:g}" for fraction in fractions}) < len(fractions):  # names of folders
        raise InputError(f"label_fractions must differ in their first six digits, got {fractions}")
    for epochs in config.label_epochs:
        if not same_kind(epochs, 1) or epochs <= 0:
            raise InputError(f"label_epochs must be whole numbers > 0, got {epochs!r}")


def _check_name(group: str, name: str) -> None:
    """Checks a name that becomes a part of a folder's name."""
    if not re.fullmatch(r"[^\W_][\w +-]{0,49}", name):
        raise InputError(
            f"{group}: {name!r} cannot be a name: use up to 50 letters, digits, blanks and _+-, "
            "and begin with a letter or a digit"
        )
    if group == "pretexts" and name in ("random", "weights_file"):
        raise InputError(f"pretexts: {name!r} cannot be a name: arms start from it already")


def _published_rows(published: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row for name, row in published.items() if name not in ("source", "dataset")}


def _check_published(published: Mapping[str, Any]) -> None:
    rows = _published_rows(published)
    dataset = published.get("dataset", "")
    if rows and not (dataset and isinstance(dataset, str)):
        raise InputError(
            f"published.dataset must name the data set of these results, got {dataset!r}"
        )
    for name, row in rows.items():
        if not isinstance(row, Mapping | ConfigDict) or not all(
            same_kind(value, 0.5) and 0 <= value <= 1 for value in row.values()
        ):
            raise InputError(f"published.{name} must hold metrics as shares, such as top1=0.52")


def _check_arm(config: ConfigDict, name: str, arm: ConfigDict) -> None:
    settings = {key: value for key, value in arm.items() if key != "axes"}
    check_group(settings, ArmSettings, group=f"arms.{name}")
    starts = ["random", "weights_file", *config.pretexts]
    if arm.start not in starts:
        raise InputError(f"arms.{name}.start: {arm.start!r}; {nearest(arm.start, starts)}")
    rows = _published_rows(config.published)
    if arm.published and arm.published not in rows:
        raise InputError(
            f"arms.{name}.published: {arm.published!r}; {nearest(arm.published, rows)}"
        )
    for fraction in arm.label_fractions:
        if fraction not in config.label_fractions:
            raise InputError(
                f"arms.{name}.label_fractions: {fraction} is not in label_fractions "
                f"{config.label_fractions}"
            )
    for setting in arm.settings:
        if setting not in config.settings:
            hint = nearest(setting, config.settings)
            raise InputError(f"arms.{name}.settings: {setting!r}; {hint}")
