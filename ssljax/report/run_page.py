"""The page of a run."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ssljax.report import document
from ssljax.report.run_charts import Row, metrics
from ssljax.report.tables import label
from ssljax.runs.best_validation import best_validation
from ssljax.runs.config import train_config
from ssljax.runs.run import Run
from ssljax.settings.options import flatten
from ssljax.training.progress import duration


@dataclasses.dataclass(frozen=True)
class Content:
    """What the page shows.

    Attributes:
      run: the run.
      rows: of metrics.jsonl.
      environment: as in environment.json, an entry for each start.
      chance: what guessing reaches, by metric.
      charts: `<svg>` elements.
      inputs: a sheet of what the network sees, as HTML.
      filters: the path of the first layer's kernel, its shape [h, w, 3, N] and its image as a
        `data:` URI; None if there is none.
      seconds: since this start of the run.
      ended: why the run has ended before its last step, as text; empty: it has not.
      reload_after: seconds after which a browser loads the page again; 0: never.
      features: what they see, as HTML; empty before the end of the run.
    """

    run: Run
    rows: Sequence[Row]
    environment: Sequence[Any] = ()
    chance: Mapping[str, float] = dataclasses.field(default_factory=dict)
    charts: Sequence[str] = ()
    inputs: str = ""
    filters: tuple[str, tuple[int, ...], str] | None = None
    seconds: float = 0
    ended: str = ""
    reload_after: int = 0
    features: str = ""


def progress(run: Run, rows: Sequence[Row]) -> tuple[int, int, float]:
    """The last step and the total number of steps (0 if it is not known yet), and the epoch."""
    if not rows or not rows[-1]["epoch"]:
        return 0, 0, 0.0
    step, epoch = rows[-1]["step"], rows[-1]["epoch"]
    return step, round(step / epoch) * run.config.epochs, epoch


def is_finished(run: Run, rows: Sequence[Row]) -> bool:
    """Whether the last step was trained and validated."""
    step, total, _ = progress(run, rows)
    return 0 < total <= step and rows[-1]["kind"] == "validation"


def render(content: Content) -> str:
    """The page as HTML."""
    run = content.run
    title = f"{run.config.method.name} on {run.config.data.dataset}"
    parts = [f"<h1>{document.name(title)}</h1>", _state(content), _results(content)]
    if content.charts:
        charts = "".join(f"<div>{chart}</div>" for chart in content.charts)
        parts += [
            "<h2>Curves</h2>",
            '<div class="legend"><span>validation</span><span class="training">training</span>'
            '<span class="guess">chance</span></div>',
            f'<div class="charts">{charts}</div>',
        ]
    parts += [content.inputs, _filters(content), content.features, *_settings(run)]
    if content.environment:
        parts.append(document.details("Environment of each start", list(content.environment)))
    _, _, epoch = progress(run, content.rows)
    tab = title if content.ended else f"{round(epoch, 2):g}/{run.config.epochs} {title}"
    return document.document(tab, filter(None, parts), content.reload_after)


def _state(content: Content) -> str:
    run = content.run
    step, total, epoch = progress(run, content.rows)
    finished = is_finished(run, content.rows) and not content.ended
    doing = "Finished" if finished else "Ended early" if content.ended else "Training"
    where = f"epoch {round(epoch, 2):g} of {run.config.epochs}"
    if total:
        where += f", step {step:,} of {total:,}"
    if left := "" if finished or content.ended else _left(content.rows, run, total - step):
        where += f", about {left} left"
    written = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    reload = (
        f" The page is loaded again every {content.reload_after} seconds."
        if content.reload_after
        else ""
    )
    bar = "" if finished or not total else f'<progress value="{step}" max="{total}"></progress>'
    why = f'<p class="state bad">{document.text(content.ended)}</p>' if content.ended else ""
    return (
        f'<p class="state"><b>{doing}</b>: {where}</p>{bar}{why}'
        f'<p class="note">Written on {document.text(written)}, {duration(content.seconds)} after '
        f"this start of the run.{reload}</p>"
    )


def _left(rows: Sequence[Row], run: Run, steps: int) -> str:
    rate = next((row["images_per_second"] for row in reversed(rows) if _is_measured(row)), 0)
    return duration(steps * run.config.batch_size / rate) if rate else ""


def _is_measured(row: Row) -> bool:
    return row["kind"] == "train" and row.get("images_per_second", 0) > 0


def _results(content: Content) -> str:
    """The last validation with chance, and the epoch of the best one."""
    validations = [row for row in content.rows if row["kind"] == "validation"]
    if not validations:
        return '<p class="note">The run has not been validated yet.</p>'
    last, method = validations[-1], content.run.method
    lines = [
        '<h2>Last validation</h2><table><tr><th>metric</th><th class="n">validation</th>'
        '<th class="n">training</th><th class="n">chance</th></tr>'
    ]
    for name in metrics(content.rows):
        values = (last.get(name), last.get(f"train_{name}"), content.chance.get(name))
        cells = "".join(f'<td class="n">{_number(value)}</td>' for value in values)
        lines.append(f"<tr><td>{document.name(label(name))}</td>{cells}</tr>")
    lines.append("</table>")
    notes = ["Training: the mean over the epochs since the validation before, with the weights of "
             "each step."]  # fmt: skip
    if (best := best_validation(method, validations)) is not None:
        notes.append(
            f"The best {label(method.best_metric)} in a validation is "
            f"{_number(best[method.best_metric])}, after epoch {best['epoch']}."
        )
    if probes := [row for row in content.rows if row["kind"] == "probe"]:
        found = [
            f"{label(name)} {100 * value:.1f} %"
            for name, value in probes[-1].items()
            if name.endswith("top1")
        ]
        notes.append(f"Probes after epoch {probes[-1]['epoch']}: {', '.join(found)}.")
    return "".join(lines) + f'<p class="note">{document.text(" ".join(notes))}</p>'


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _filters(content: Content) -> str:
    if content.filters is None:
        return ""
    path, (height, width, _, count), image = content.filters
    name = document.name(path)
    return (
        f'<h2>First-layer filters</h2><p class="note">{name}: {count} filters of {height}×{width} '
        f"pixels, each with its smallest value black and its largest white.</p>"
        f'<img class="filters" alt="the filters {name}" src="{image}">'
    )


def _settings(run: Run) -> list[str]:
    """Those that are not defaults, then all of them."""
    config = run.config
    defaults = dict(flatten(train_config(config.method.name, config.model.name)))
    lines = ["<table><tr><th>setting</th><th>value</th><th>default</th></tr>"]
    for key, value in flatten(config):
        if key in defaults and value == defaults[key]:
            continue
        default = document.name(_setting(defaults[key])) if key in defaults else ""
        lines.append(
            f"<tr><td>{document.name(key)}</td><td>{document.name(_setting(value))}</td>"
            f'<td class="quiet">{default}</td></tr>'
        )
    note = "Those that differ from the defaults of the method and the model."
    return [
        f'<h2>Settings</h2><p class="note">{note}</p>' + "".join(lines) + "</table>",
        document.details("All settings", config.to_dict()),
    ]


def _setting(value: Any) -> str:
    if isinstance(value, str):
        return value or "''"
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
