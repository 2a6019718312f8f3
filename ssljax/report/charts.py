"""The charts of a study's report, as SVG."""

from __future__ import annotations

import collections
from typing import Any

from ssljax.report import curves, document
from ssljax.report import points as points_chart
from ssljax.report.curves import Curve
from ssljax.report.points import Point
from ssljax.report.tables import label, metrics
from ssljax.studies.results import best, chosen, error, main_arms


def arms(results: dict[str, Any]) -> str:
    """The main metric of the arms with all their labels, with error bars."""
    key, points = results["metric"], []
    for name, arm in main_arms(results).items():
        summary = chosen(arm)
        published = results["published"].get(arm["published"], {}).get(key)
        points.append(Point(name, summary["mean"][key], error(summary, key), published))
    chance = chosen(next(iter(main_arms(results).values())))["chance"].get(key)
    drawn = points_chart.draw(points, f"Test {label(key)}", "percent", chance)
    return document.chart(drawn, _bars(results))


def classification(results: dict[str, Any]) -> list[str]:
    """Validation metrics and losses of the arms by epoch."""
    arms = list(main_arms(results).items())
    names = [name for name in metrics(chosen(arms[0][1])) if name != "class_mean"]
    figures = []
    for key in names:
        lines = [
            Curve(name, run["epochs"], run["validation"][key], index)
            for index, (name, arm) in enumerate(arms)
            for run in chosen(arm)["curves"]
        ]
        figures.append(curves.draw(lines, f"Validation {label(key)}", "percent", percent=True))
    losses = []
    for index, (name, arm) in enumerate(arms):
        for run in chosen(arm)["curves"]:
            epochs, validation, training = run["epochs"], run["validation"], run["training"]
            losses.append(Curve(f"{name}, validation", epochs, validation["loss"], index))
            losses.append(Curve(f"{name}, training", epochs, training["loss"], index, True))
    return [*figures, curves.draw(losses, "Loss", "cross entropy, nats")]


def pretexts(results: dict[str, Any]) -> list[str]:
    """Every metric of each pretext task by epoch; those that show collapse, of all tasks together.

    The latter are metrics that several tasks have and that guessing does not reach.
    """
    tasks = results["pretexts"]
    counts = collections.Counter(key for pretext in tasks.values() for key in metrics(pretext))
    shared = [
        key
        for key, count in counts.items()
        if count > 1 and not any(key in pretext["chance"] for pretext in tasks.values())
    ]
    figures = [_monitor(results, key) for key in shared]
    for index, (name, pretext) in enumerate(tasks.items()):
        for key in metrics(pretext):
            if key in shared:
                continue
            lines = []
            for run in pretext["curves"]:
                epochs = run["epochs"]
                lines.append(Curve("validation", epochs, run["validation"][key], index))
                if key in run["training"]:
                    lines.append(Curve("training", epochs, run["training"][key], index, True))
            title = f"{name}: {label(key)}"
            figures.append(curves.draw(lines, title, "", chance=pretext["chance"].get(key)))
    return figures


def _monitor(results: dict[str, Any], key: str) -> str:
    lines = [
        Curve(name, run["epochs"], run["validation"][key], index)
        for index, (name, pretext) in enumerate(results["pretexts"].items())
        if key in pretext["mean"]
        for run in pretext["curves"]
    ]
    return curves.draw(lines, f"Validation {label(key)}", "")


def label_efficiency(results: dict[str, Any]) -> str:
    """The main metric of the arms by share of the labels."""
    lines = []
    arms = [(name, arm) for name, arm in results["arms"].items() if len(arm["labels"]) > 1]
    for index, (name, arm) in enumerate(arms):
        shares = sorted(arm["labels"].values(), key=lambda share: share["fraction"])
        fractions = [100 * share["fraction"] for share in shares]
        lines.append(_curve(results, name, fractions, [best(share) for share in shares], index))
    drawn = curves.draw(
        lines,
        f"Test {label(results['metric'])} by share of the labels",
        "percent",
        percent=True,
        x_label="percent of the labels",
        logarithmic=True,
    )
    return document.chart(drawn, _bars(results))


def axis(results: dict[str, Any], name: str) -> str:
    """The main metric over a quantity in which arms differ, one line per share of the labels."""
    arms = [arm for arm in results["arms"].values() if name in arm["axes"]]
    arms.sort(key=lambda arm: arm["axes"][name])
    keys = sorted({key for arm in arms for key in arm["labels"]}, key=float, reverse=True)
    shares = {key: [arm for arm in arms if key in arm["labels"]] for key in keys}
    most = max(map(len, shares.values()))
    shares = {key: points for key, points in shares.items() if len(points) > 1 or most == 1}
    lines = [
        _curve(
            results,
            f"{100 * float(key):g} % of the labels",
            [arm["axes"][name] for arm in points],
            [best(arm["labels"][key]) for arm in points],
            index,
        )
        for index, (key, points) in enumerate(shares.items())
    ]
    title = f"Test {label(results['metric'])} by {name}"
    drawn = curves.draw(lines, title, "percent", percent=True, x_label=name, markers=True)
    return document.chart(drawn, _bars(results))


def _bars(results: dict[str, Any]) -> str:
    """What error bars of arms are, see `ssljax.studies.results.error`."""
    of_seeds = "of seeds and test set" if len(results["seeds"]) > 1 else "of the test set"
    return f"Bars: the standard error {of_seeds}."


def _curve(
    results: dict[str, Any], name: str, x: list[float], summaries: list[dict[str, Any]], index: int
) -> Curve:
    metric = results["metric"]
    errors = [error(summary, metric) for summary in summaries]
    return Curve(name, x, [summary["mean"][metric] for summary in summaries], index, spread=errors)
