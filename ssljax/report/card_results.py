"""The results on a model card."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import numpy as np

from ssljax.data.prepared import is_prepared
from ssljax.data.records import Records, open_records
from ssljax.data.subset import label_fraction
from ssljax.report import markdown
from ssljax.runs.metrics_log import read_metrics
from ssljax.runs.saved_evaluations import SavedEvaluation, numbers
from ssljax.runs.trained_model import TrainedModel
from ssljax.settings.errors import InputError


def results(
    model: TrainedModel, workdir: str | pathlib.Path, evaluations: list[SavedEvaluation]
) -> str:
    """All evaluations with their commands, and the metrics of the checkpoint's validation."""
    parts = ["## Results"]
    own = model.run.config.data.dataset
    if evaluations:
        parts.append(
            "Chance is what guessing without looking at the image reaches. RUN is the run folder, "
            "or the one that `weights import` makes."
        )
    else:
        parts.append("These weights have not been evaluated with `python -m ssljax.evaluate`.")
    for each in evaluations:
        other = f" These are the weights of step {each.step:,}, not these." * (
            each.step != model.step
        )
        parts += [
            f"{markdown.code(each.dataset)}, split {markdown.code(each.split)}, "
            f"{each.examples:,} images:{other}",
            markdown.block("", each.command(own)),
            _metrics(each.metrics, each.chance, each.standard_error),
        ]
    rows = [
        row
        for row in read_metrics(workdir)
        if row["kind"] == "validation" and row["step"] == model.step
    ]
    if rows:
        split = model.run.config.data.validation_split
        not_metrics = ("kind", "step", "epoch")
        measured = {name: value for name, value in rows[-1].items() if name not in not_metrics}
        parts += [
            f"While training, on the validation split {markdown.code(split)}:",
            _metrics(numbers(measured), _validation_chance(model), {}),
        ]
    return "\n\n".join(parts)


def _metrics(
    metrics: Mapping[str, float], chance: Mapping[str, float], errors: Mapping[str, float]
) -> str:
    def number(values: Mapping[str, float], name: str) -> str:
        return f"{values[name]:.4f}" if name in values else ""

    head = ["metric", "value", "chance", *["standard error"] * bool(errors)]
    tables = (metrics, chance, errors) if errors else (metrics, chance)
    return markdown.table(
        head,
        [
            [markdown.code(name, in_table=True), *(number(values, name) for values in tables)]
            for name in metrics
            if not name.startswith("train_")
        ],
    )


def _records(model: TrainedModel, split: str) -> Records | None:
    """A split of the run's data set; None if that is not here."""
    data = model.run.config.data
    try:
        if is_prepared(data.dataset, data.data_dir):
            keys = (data.image_key, data.label_key)
            return open_records(data.dataset, split, data.data_dir, *keys, write=False)
    except InputError:
        pass
    return None


def trained_on(model: TrainedModel) -> str:
    """The training split, the share of it that was trained on, and how many images that is.

    Numbers of images are left out if the data set is not here, or has changed.
    """
    config, data = model.run.config, model.run.config.data
    if data.label_fraction == 1:
        return f"split {markdown.code(data.train_split)}{count(model, data.train_split)}"
    text = (
        f"{100 * data.label_fraction:g} % of each class of split {markdown.code(data.train_split)}"
    )
    records = _records(model, data.train_split)
    if records is not None:
        try:
            share = label_fraction(records, data.label_fraction, config.seed)
        except InputError:
            return text
        text += f", {len(share):,} of {len(records):,} images"
    return text


def count(model: TrainedModel, split: str) -> str:
    """How many images a split has, as the end of a line; empty if the data set is not here."""
    records = _records(model, split)
    return "" if records is None else f", {len(records):,} images"


def _validation_chance(model: TrainedModel) -> dict[str, float]:
    """What guessing reaches on the validation split, if that can be known."""
    method = model.run.method
    if not method.needs_labels:
        return method.chance(np.zeros(1, np.int64))
    records = _records(model, model.run.config.data.validation_split)
    if records is None or records.class_names != model.class_names:
        return {}
    return method.chance(records.labels())
