"""What the command prints at the end of a study."""

from __future__ import annotations

from typing import Any

from ssljax.settings.printable import quoted
from ssljax.studies.results import chosen, failed_arms


def table(collected: dict[str, Any]) -> list[str]:
    """The accuracies of a study as the lines of a table, in percent."""
    longest = max(map(len, collected["config"]["arms"]))
    heads = f"{'labels':>7} {'top-1':>7} {'top-3':>7} {'top-5':>7} {'class mean':>11}"
    lines = [f"{'arm':{longest}} {heads}"]
    for name, arm in collected["arms"].items():
        for share in arm["labels"].values():
            mean = share["settings"][share["best"]]["mean"]
            values = (100 * mean[key] for key in ("top1", "top3", "top5", "class_mean"))
            row = "{:7.1f} {:7.1f} {:7.1f} {:11.1f}".format(*values)
            lines.append(f"{name:{longest}} {100 * share['fraction']:6g}% {row}")
    lines += [f"{name:{longest}}  failed" for name in failed_arms(collected)]
    return lines


def prediction(collected: dict[str, Any], plugin: str) -> str:
    """The command that predicts with the arm that is best at the largest share of the labels."""
    arms = [chosen(arm) for arm in collected["arms"].values()]
    best = max(arms, key=lambda summary: summary["mean"]["top1"])
    folder = quoted(str(best["runs"][0]["folder"]))
    plugins = f" --plugin={quoted(plugin)}" if plugin else ""
    return f"python -m ssljax.predict --workdir={folder}{plugins} IMAGE_OR_FOLDER..."
