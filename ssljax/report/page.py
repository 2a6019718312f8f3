"""The report of a study: one HTML file that needs nothing beside it."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ssljax.report import curves
from ssljax.report.curves import Curve
from ssljax.report.pictures import Tile, data_uri
from ssljax.slides import PUBLISHED

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1120px; margin: 2em auto;
  padding: 0 1em; }
h1 { font-size: 1.6em; margin-bottom: .2em } h2 { font-size: 1.2em; margin: 2em 0 .5em }
h3 { font-size: 1em; margin: 1.2em 0 .3em }
table { border-collapse: collapse; margin: .5em 0 } th { text-align: left; font-weight: 600 }
td, th { padding: .3em .9em .3em 0; border-bottom: 1px solid #ddd; vertical-align: baseline }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } td.slides { color: #777 }
tr.floor td { color: #777; font-style: italic } .note { color: #666 }
.row { display: flex; flex-wrap: wrap; gap: 1em } .row svg { max-width: 520px; height: auto }
figure { margin: 0; width: 124px } figure img { width: 124px; height: 124px; display: block;
  image-rendering: auto; border-radius: 3px } figcaption { font-size: 11px; line-height: 1.3;
  color: #666; margin-top: 3px } .good figcaption { color: #00734f }
.bad figcaption { color: #b34700 }
.triple { display: flex; gap: 4px; padding: 6px; background: #f4f4f4; border-radius: 6px }
pre { background: #f6f6f6; padding: 1em; overflow: auto; font-size: 12px; max-height: 30em }
"""
_METRICS = (("top1", "top-1"), ("top3", "top-3"), ("top5", "top-5"), ("class_mean", "class mean"))


def render(
    results: dict[str, Any],
    puzzles: Mapping[str, Sequence[tuple[Tile, Tile, Tile]]],
    classified: Mapping[str, Sequence[Tile]],
) -> str:
    """Renders the page.

    Args:
      results: as in results.json, see `ssljax.study`.
      puzzles: for each jigsaw run shuffled, reassembled and original pictures.
      classified: for each arm classified pictures.
    """
    parts = [
        f"<h1>{_text(results['dataset'])}: does the pretext task help?</h1>",
        f"<p>{_text(verdict(results))}</p>",
        "<h2>Test accuracy</h2>",
        _arms_table(results),
        *_comparisons(results),
        "<h2>Classification, by epoch</h2>",
        _row(_classification_curves(results)),
    ]
    if results["pretexts"]:
        parts += ["<h2>Pretext tasks</h2>", _pretexts_table(results)]
        parts.append(_row(_pretext_curves(results)))
    for name, rows in puzzles.items():
        parts.append(f"<h2>Puzzles of {_text(name)}</h2>")
        parts.append(
            '<p class="note">Shuffled, as the network reassembles it (every tile in a place of '
            "its own, at the least total distance), original.</p>"
        )
        parts.append(_row(_triple(row) for row in rows))
    for name, tiles in classified.items():
        parts.append(f"<h2>Classified by {_text(name)}</h2>")
        parts.append('<p class="note">Truth: the three likeliest. Hits first, then misses.</p>')
        parts.append(_row(_figure(tile) for tile in tiles))
    parts += ["<h2>Settings</h2>", _details(results)]
    title = html.escape(f"ssljax study: {results['dataset']}")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def verdict(results: dict[str, Any]) -> str:
    """A part for each pretext arm, against the random one at the same share of the labels."""
    arms = main_arms(results)
    random = next((arm for arm in arms.values() if arm["start"] == "random"), None)
    if random is None:
        return "There is no arm from random weights to compare with."
    if all(arm["start"] == "random" for arm in arms.values()):
        arms = results["arms"]
    sentences = []
    for name, arm in arms.items():
        if arm["start"] == "random":
            continue
        gains = {
            share["fraction"]: 100 * (best(share)["mean"]["top1"] - best(other)["mean"]["top1"])
            for key, share in arm["labels"].items()
            if (other := random["labels"].get(key))
        }
        if not gains:
            continue
        gain, least = gains[max(gains)], min(gains)
        how = "above" if gain >= 0 else "below"
        sentence = f"{name} ends {abs(gain):.1f} points {how} random weights in top-1"
        if max(gains) < 1:
            sentence += f" with {100 * max(gains):g} % of the labels"
        if len(gains) > 1:
            sentence += f" ({gains[least]:+.1f} with {100 * least:g} % of the labels)"
        sentences.append(sentence)
    seeds = len(results["seeds"])
    runs = "one seed, so small differences mean nothing" if seeds == 1 else f"{seeds} seeds"
    return ("; ".join(sentences) or "Only random weights were trained") + f" ({runs})."


def chosen(arm: dict[str, Any]) -> dict[str, Any]:
    """The summary of an arm at its largest share of the labels, under the setting it chose."""
    return best(max(arm["labels"].values(), key=lambda share: share["fraction"]))


def main_arms(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The arms that were trained on the study's largest share of the labels, by name."""
    largest = max(
        share["fraction"] for arm in results["arms"].values() for share in arm["labels"].values()
    )
    return {name: arm for name, arm in results["arms"].items() if f"{largest:g}" in arm["labels"]}


def best(share: dict[str, Any]) -> dict[str, Any]:
    """The summary of a share of the labels under the setting that was chosen for it."""
    return share["settings"][share["best"]]


def _comparisons(results: dict[str, Any]) -> list[str]:
    """What only larger studies have: shares of the labels, settings, and axes."""
    shares = sorted({key for arm in results["arms"].values() for key in arm["labels"]}, key=float)
    settings = results["config"]["settings"]
    parts = []
    if len(shares) > 1 or settings:
        parts += ["<h2>By share of the labels</h2>", _shares_table(results, shares)]
    if len(shares) > 1:
        parts.append(_row([_label_efficiency(results)]))
    axes = {axis for arm in results["arms"].values() for axis in arm["axes"]}
    if axes:
        figures = [_axis_curve(results, axis) for axis in sorted(axes)]
        parts += ["<h2>By the pretext task's effort</h2>", _row(figures)]
    return parts


def _shares_table(results: dict[str, Any], shares: Sequence[str]) -> str:
    """Top-1 of every arm, at each share of the labels, under each setting."""
    settings = sorted(results["config"]["settings"], key=lambda name: name != "slides") or [""]
    span = f' colspan="{len(settings)}"' if len(settings) > 1 else ""
    lines = ["<table><tr><th>arm, top-1</th>"]
    lines += [f'<th class="n"{span}>{100 * float(share):g} %</th>' for share in reversed(shares)]
    lines.append("</tr>")
    if len(settings) > 1:
        lines.append("<tr><th></th>")
        lines += [f'<th class="n">{_text(name)}</th>' for _ in shares for name in settings]
        lines.append("</tr>")
    for name, arm in results["arms"].items():
        lines.append(f"<tr><td>{_text(name)}</td>")
        for key in reversed(shares):
            for setting in settings:
                share = arm["labels"].get(key, {"settings": {}, "best": None})
                summary = share["settings"].get(setting)
                text = _percent(summary, "top1") if summary else ""
                bold = len(settings) > 1 and setting == share["best"]
                lines.append(f'<td class="n">{f"<b>{text}</b>" if bold else text}</td>')
        lines.append("</tr>")
    note = "Bold: the setting that the arm chose on validation data." if len(settings) > 1 else ""
    return "".join(lines) + f'</table><p class="note">{note}</p>'


def _label_efficiency(results: dict[str, Any]) -> str:
    lines = []
    arms = [(name, arm) for name, arm in results["arms"].items() if len(arm["labels"]) > 1]
    for index, (name, arm) in enumerate(arms):
        shares = sorted(arm["labels"].values(), key=lambda share: share["fraction"])
        summaries = [best(share) for share in shares]
        lines.append(
            Curve(
                name,
                [100 * share["fraction"] for share in shares],
                [summary["mean"]["top1"] for summary in summaries],
                index,
                spread=[summary["std"]["top1"] if summary["std"] else 0.0 for summary in summaries],
            )
        )
    return curves.draw(
        lines, "Test top-1 by share of the labels", "percent", percent=True,
        x_label="percent of the labels", logarithmic=True,
    )  # fmt: skip


def _axis_curve(results: dict[str, Any], axis: str) -> str:
    """Top-1 over a quantity in which arms differ, one line per share of the labels."""
    arms = [arm for arm in results["arms"].values() if axis in arm["axes"]]
    arms.sort(key=lambda arm: arm["axes"][axis])
    lines = []
    keys = sorted({key for arm in arms for key in arm["labels"]}, key=float, reverse=True)
    shares = {key: [arm for arm in arms if key in arm["labels"]] for key in keys}
    most = max(map(len, shares.values()))
    shares = {key: points for key, points in shares.items() if len(points) > 1 or most == 1}
    for index, (key, points) in enumerate(shares.items()):
        summaries = [best(arm["labels"][key]) for arm in points]
        lines.append(
            Curve(
                f"{100 * float(key):g} % of the labels",
                [arm["axes"][axis] for arm in points],
                [summary["mean"]["top1"] for summary in summaries],
                index,
                spread=[summary["std"]["top1"] if summary["std"] else 0.0 for summary in summaries],
            )
        )
    return curves.draw(
        lines, f"Test top-1 by {axis}", "percent", percent=True, x_label=axis, markers=True
    )


def _arms_table(results: dict[str, Any]) -> str:
    head = "".join(f'<th class="n">{label}</th>' for _, label in _METRICS)
    slides = "".join(f'<th class="n">{label}</th>' for _, label in _METRICS[:3])
    lines = [f"<table><tr><th>arm</th><th>starts from</th>{head}<th>slides</th>{slides}</tr>"]
    arms = main_arms(results)
    for name, arm in arms.items():
        cells = "".join(f'<td class="n">{_percent(chosen(arm), key)}</td>' for key, _ in _METRICS)
        published = PUBLISHED.get(arm["slides_arm"])
        beside = "".join(
            f'<td class="n slides">{f"{published[i]:.1f}" if published else ""}</td>'
            for i in range(3)
        )
        lines.append(
            f"<tr><td>{_text(name)}</td><td>{_text(arm['start'])}</td>{cells}"
            f'<td class="slides">{_text(arm["slides_arm"])}</td>{beside}</tr>'
        )
    floor = chosen(next(iter(arms.values())))["floor"]
    cells = "".join(f'<td class="n">{100 * floor[key]:.1f}</td>' for key, _ in _METRICS)
    lines.append(f'<tr class="floor"><td>guessing</td><td></td>{cells}<td colspan="4"></td></tr>')
    seeds = len(results["seeds"])
    spread = f", mean ± standard deviation over {seeds} seeds" if seeds > 1 else ", one seed"
    note = (
        f"Percent of {results['test_examples']:,} test examples{spread}; each arm with all its "
        "labels and, where there are several settings, the one it chose. Guessing always names the "
        "most frequent classes. The slides' numbers are DeepFashion's, 48 classes."
    )
    return "".join(lines) + f'</table><p class="note">{_text(note)}</p>'


def _pretexts_table(results: dict[str, Any]) -> str:
    lines = []
    for name, pretext in results["pretexts"].items():
        keys = [key for key in pretext["mean"] if key != "loss"]
        head = "".join(f'<th class="n">{_text(key.replace("_", " "))}</th>' for key in keys)
        cells = "".join(
            f'<td class="n">{pretext["mean"][key]:.4f} {_spread(pretext, key, 1, 4)}</td>'
            for key in keys
        )
        floor = "".join(f'<td class="n">{pretext["floor"].get(key, 0):.4f}</td>' for key in keys)
        lines.append(
            f"<table><tr><th>{_text(name)}</th>{head}</tr><tr><td>test</td>{cells}</tr>"
            f'<tr class="floor"><td>guessing</td>{floor}</tr></table>'
        )
    return "".join(lines)


def _classification_curves(results: dict[str, Any]) -> list[str]:
    arms = list(main_arms(results).items())
    figures = []
    for key, label in _METRICS[:3]:
        lines = [
            Curve(name, run["epochs"], run["validation"][key], index)
            for index, (name, arm) in enumerate(arms)
            for run in chosen(arm)["curves"]
        ]
        figures.append(curves.draw(lines, f"Validation {label}", "percent", percent=True))
    losses = []
    for index, (name, arm) in enumerate(arms):
        for run in chosen(arm)["curves"]:
            losses.append(
                Curve(f"{name}, validation", run["epochs"], run["validation"]["loss"], index)
            )
            losses.append(
                Curve(f"{name}, training", run["epochs"], run["training"]["loss"], index, True)
            )
    return [*figures, curves.draw(losses, "Loss", "cross entropy, nats")]


def _pretext_curves(results: dict[str, Any]) -> list[str]:
    figures = []
    for index, (name, pretext) in enumerate(results["pretexts"].items()):
        for key in pretext["mean"]:
            if key == "loss":
                continue
            lines = []
            for run in pretext["curves"]:
                epochs = run["epochs"]
                lines.append(Curve("validation", epochs, run["validation"][key], index))
                lines.append(Curve("training", epochs, run["training"][key], index, True))
            title = f"{name}: {key.replace('_', ' ')}"
            figures.append(curves.draw(lines, title, "", floor=pretext["floor"].get(key)))
    return figures


def _percent(arm: dict[str, Any], key: str) -> str:
    return f"{100 * arm['mean'][key]:.1f} {_spread(arm, key, 100, 1)}".strip()


def _spread(entry: dict[str, Any], key: str, factor: float, digits: int) -> str:
    if entry["std"] is None:
        return ""
    return f"± {factor * entry['std'][key]:.{digits}f}"


def _details(results: dict[str, Any]) -> str:
    settings = html.escape(json.dumps(results["config"], indent=2))
    environment = html.escape(json.dumps(results["environment"], indent=2))
    return (
        f"<details><summary>Config</summary><pre>{settings}</pre></details>"
        f"<details><summary>Environment</summary><pre>{environment}</pre></details>"
    )


def _triple(row: Iterable[Tile]) -> str:
    return f'<div class="triple">{"".join(_figure(tile) for tile in row)}</div>'


def _figure(tile: Tile) -> str:
    kind = {None: "", True: "good", False: "bad"}[tile.good]
    caption = html.escape(tile.caption)
    return (
        f'<figure class="{kind}"><img src="{data_uri(tile.pixels)}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _row(items: Iterable[str]) -> str:
    return f'<div class="row">{"".join(items)}</div>'


def _text(value: str) -> str:
    return html.escape(str(value))
