"""The settings of a study; `studies/checks.py` checks them."""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from ssljax.runs.config import complete, train_config
from ssljax.settings.errors import InputError
from ssljax.settings.options import defaults, option


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
    init_layers: str = option(
        "",
        "parameters to transfer: comma-separated path patterns; empty: those of `classification`",
    )
    frozen_layers: str = option(
        "",
        "parameters that are not trained: comma-separated path patterns; empty: those of "
        "`classification`",
    )
    published: str = option("", "the published result to compare with: a name in `published`")
    label_fractions: tuple[float, ...] = option((), "shares of the labels; empty: the study's")
    settings: tuple[str, ...] = option((), "settings to choose from; empty: all of the study's")


@dataclasses.dataclass(frozen=True)
class Setting:
    """`config.settings.NAME.*`: learning rate and weight decay that arms choose from."""

    learning_rate: float = option(1e-4, "of the optimiser", above=0)
    weight_decay: float = option(1e-3, "of the optimiser", at_least=0)


GROUPS = ("pretexts", "classification", "arms", "settings", "published")


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
      init_layers: what to transfer; empty: what `classification` says.
    """
    config = defaults(ArmSettings)
    config.update(start=start, published=published, init_layers=init_layers)
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
    for name, run in runs_of(config):
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


def runs_of(config: ConfigDict) -> list[tuple[str, ConfigDict]]:
    """The training configs of a study, by what they are called in messages."""
    return [*config.pretexts.items(), ("classification", config.classification)]
