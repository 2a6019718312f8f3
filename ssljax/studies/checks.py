"""Checks of a study's settings, before anything is trained."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from ssljax.methods import method_class
from ssljax.probes import PROBES
from ssljax.runs.config import check_train_config, train_fields
from ssljax.settings.errors import InputError, nearest
from ssljax.settings.options import check_group, options, same_kind
from ssljax.studies.config import (
    GROUPS,
    ArmSettings,
    Setting,
    StudySettings,
    complete_study,
    runs_of,
)


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


def check_study_config(config: ConfigDict) -> None:
    """Checks the settings of a complete study, including those of its runs.

    Raises:
      InputError: names the key and what would be right.
    """
    own = {key: value for key, value in config.items() if key not in GROUPS}
    for key in own:
        if key not in options(StudySettings):
            known = [*options(StudySettings), *GROUPS]
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
    if len(set(config.probes)) < len(config.probes):
        raise InputError(f"probes has the same value twice: {config.probes}")
    if not config.arms:
        raise InputError("arms: a study needs at least one")
    for group in ("pretexts", "arms", "settings"):
        for name in config[group]:
            _check_name(group, name)
    for name, run in runs_of(config):
        try:
            check_train_config(run)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    if config.classification.init_from:
        raise InputError("classification.init_from: in a study, the arms name what they start from")
    if config.classification.data.label_fraction != 1:
        raise InputError(
            "classification.data.label_fraction must be 1; in a study, label_fractions has the "
            "shares of the labels"
        )
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
        if not isinstance(setting, str):
            raise InputError(
                f"arms.{name}.settings: {setting!r} is not a name; quote names that look like "
                f"numbers, as in --config.arms.{name}.settings=\"'1e-3','1e-4'\""
            )
        if setting not in config.settings:
            hint = nearest(setting, config.settings)
            raise InputError(f"arms.{name}.settings: {setting!r}; {hint}")
