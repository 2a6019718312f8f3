"""What each method of a study cost: images, minutes and parameters, on its page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from ssljax.probes.table import of_protocol
from ssljax.report import curves, document
from ssljax.report.curves import Curve
from ssljax.report.tables import label
from ssljax.runs.trained_model import TrainedModel
from ssljax.training.training_records import training_records

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Budget:
    """Of one run.

    Attributes:
      images: that training saw, over all epochs.
      minutes: of training, without compilation, validations and checkpoints.
      backbone: the number of its parameters.
      parameters: of the whole network.
    """

    images: int
    minutes: float
    backbone: int
    parameters: int


def of_run(model: TrainedModel, rows: Sequence[Row]) -> Budget:
    """The budget of a finished run.

    Args:
      model: of the run.
      rows: of its metrics.jsonl.
    """
    images = len(training_records(model.run))
    seconds, last = 0.0, 0.0
    for row in rows:
        if row["kind"] == "train":
            if rate := row.get("images_per_second"):  # the first row after a start has none
                seconds += (row["epoch"] - last) * images / rate
            last = row["epoch"]
    counts = {
        part: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
        for part, params in model.params.items()
    }
    return Budget(round(last * images), seconds / 60, counts["backbone"], sum(counts.values()))


def section(results: Mapping[str, Any], budgets: Mapping[str, Budget]) -> list[str]:
    """A table, and the accuracy of frozen features against the minutes of pretraining.

    Args:
      results: as in results.json, see `ssljax.studies.results.collect`.
      budgets: of the first run of each pretext task and each arm, as `pretext NAME` and `arm NAME`.
    """
    if not budgets:
        return []
    lines = [
        '<table><tr><th>run</th><th class="n">images seen</th><th class="n">minutes</th>'
        '<th class="n">parameters of the backbone</th><th class="n">of the whole network</th></tr>'
    ]
    for name, budget in budgets.items():
        lines.append(
            f'<tr><td>{document.name(name)}</td><td class="n">{budget.images:,}</td>'
            f'<td class="n">{budget.minutes:.1f}</td><td class="n">{budget.backbone:,}</td>'
            f'<td class="n">{budget.parameters:,}</td></tr>'
        )
    note = (
        "Images are counted once per epoch, however many views a method makes of them. Minutes: "
        "of training, with the first seed, on the machine of that run, without compilation, "
        "validation and checkpoints. Heads are not part of the backbone."
    )
    table = "".join(lines) + f'</table><p class="note">{note}</p>'
    return ["<h2>Budgets</h2>", table, document.row(_charts(results, budgets))]


def _charts(results: Mapping[str, Any], budgets: Mapping[str, Budget]) -> list[str]:
    drawn = []
    for probe, said in (("knn", "kNN"), ("linear", "linear")):
        points = []
        for index, (name, rows) in enumerate(results["probes"].items()):
            values = [
                row["top1"] for row in of_protocol(rows, probe, 1.0) if row["weights"] != "random"
            ]
            if values and (budget := budgets.get(f"pretext {name}")):
                mean = sum(values) / len(values)
                points.append(Curve(name, [budget.minutes], [mean], index))
        if len(points) > 1:
            title = f"{said} {label('top1')} by minutes of pretraining"
            drawn.append(
                curves.draw(points, title, "percent", percent=True, x_label="minutes", markers=True)
            )
    return drawn
