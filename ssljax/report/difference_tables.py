"""Which differences are more than noise, as tables of a study's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ssljax.report import document
from ssljax.studies.differences import is_noise

Row = Mapping[str, Any]
_ENOUGH_SEEDS = 3
PROTOCOLS = {"knn": "kNN", "linear": "linear", "labels": "with labels"}


def section(results: Mapping[str, Any]) -> list[str]:
    """A table against random weights, and one against the best method; [] without differences.

    Args:
      results: as in results.json, see `ssljax.studies.results.collect`.
    """
    rows = results["differences"]
    tables = [
        _table("to random weights", [row for row in rows if row["is_floor"]]),
        _table("to the best of the column", [row for row in rows if not row["is_floor"]]),
    ]
    if not any(tables):
        return []
    fewest, most = min(row["seeds"] for row in rows), max(row["seeds"] for row in rows)
    also = "also hold" if most > 1 else "do not hold"
    note = (
        "Points of top-1 and their 95 % interval, of the same seeds and the same test images. The "
        "intervals hold the uncertainty of the test images, which are a sample, and of the labels "
        f"that probes draw. They {also} that of the seeds, which draw the labels of the arms. "
        f"Bold: 0 is outside of the interval. {_chance_of_bold(fewest)}"
    )
    return [
        "<h2>Which differences are more than noise</h2>",
        *filter(None, tables),
        f'<p class="note">{note}</p>',
    ]


def _chance_of_bold(seeds: int) -> str:
    """How often a difference that is none is bold.

    In simulations in which seeds vary, intervals of 95 % hold the truth in 93 % of all cases with
    three seeds, but in 85 to 88 % with two and in 25 to 35 % with one.
    """
    wider = (
        "The best of a column is found by the same numbers, so the intervals to it are wider "
        "(Bonferroni's correction for all pairs)"
    )
    if seeds >= _ENOUGH_SEEDS:
        return (
            "Of twenty differences to random weights that are none, one is expected to be bold. "
            f"{wider}: if all methods of a column are equally good, it has a bold difference in "
            "one of twenty cases."
        )
    says_little = (
        "The interval of one seed is that of other test images and does not hold the variation "
        "between seeds"
        if seeds == 1
        else "The interval of two seeds is little more than that of other test images, because "
        "two seeds hardly tell how much seeds vary"
    )
    return (
        f"{says_little}. Bold may therefore be chance more often than in one of twenty cases. "
        f"{wider}."
    )


def _table(to: str, rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    columns = list(dict.fromkeys((row["protocol"], row["label_fraction"]) for row in rows))
    names = list(dict.fromkeys(row["name"] for row in rows))
    found = {(row["name"], row["protocol"], row["label_fraction"]): row for row in rows}
    lines = [f"<table><tr><th>difference {to}</th>"]
    for protocol, fraction in columns:
        lines.append(f'<th class="n">{PROTOCOLS[protocol]}, {100 * fraction:g} %</th>')
    for name in names:
        lines.append(f"</tr><tr><td>{document.name(name)}</td>")
        lines += [f'<td class="n">{_cell(found.get((name, *column)))}</td>' for column in columns]
    return "".join(lines) + "</tr></table>"


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    text = f"{100 * row['difference']:+.1f} ({ends(row)})"
    return text if is_noise(row) else f"<b>{text}</b>"


def ends(row: Row) -> str:
    """The ends of an interval in points, such as `-0.3 to 1.2`."""
    return f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"
