"""The tables of a study's report, as HTML."""

from __future__ import annotations

import pathlib
import urllib.parse
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from ssljax.report import document
from ssljax.studies.labels_worth import random_shares, worth
from ssljax.studies.results import chosen, describe_failure, failed_arms, main_arms

_LABELS = {
    "top1": "top-1", "top3": "top-3", "top5": "top-5",
    "knn_top1": "kNN top-1", "linear_top1": "linear top-1",
}  # fmt: skip


def label(metric: str) -> str:
    """A metric's name for people."""
    return _LABELS.get(metric, metric.replace("_", " "))


def metrics(summary: dict[str, Any]) -> list[str]:
    """The metrics of a summary except the loss, which has no chance level."""
    return [name for name in summary["mean"] if name != "loss"]


def arms(results: dict[str, Any]) -> str:
    """The arms with the largest share of the labels, and published results next to them."""
    shown = main_arms(results)
    names = metrics(chosen(next(iter(shown.values()))))
    published = {arm["published"] for arm in shown.values()} & set(results["published"])
    columns = [
        name for name in names if any(name in results["published"][row] for row in published)
    ]
    several = len(results["seeds"]) > 1
    head = '<th class="n">seeds</th>' * several
    head += "".join(f'<th class="n">{document.name(label(name))}</th>' for name in names)
    beside = "".join(f'<th class="n">{document.name(label(name))}</th>' for name in columns)
    lines = [f"<table><tr><th>arm</th><th>starts from</th>{head}"]
    lines.append(f"<th>published</th>{beside}</tr>" if published else "</tr>")
    for name, arm in shown.items():
        summary = chosen(arm)
        cells = f'<td class="n">{len(summary["runs"])}</td>' * several
        cells += "".join(f'<td class="n">{percent(summary, key)}</td>' for key in names)
        lines.append(
            f"<tr><td>{document.name(name)}</td><td>{document.name(arm['start'])}</td>{cells}"
        )
        if published:
            row = results["published"].get(arm["published"], {})
            values = (f"{100 * row[key]:.1f}" if key in row else "" for key in columns)
            name = arm["published"] if row else ""
            lines.append(f'<td class="published">{document.name(name)}</td>')
            lines += [f'<td class="n published">{value}</td>' for value in values]
        lines.append("</tr>")
    columns_after = 1 + len(columns) if published else 0
    span = several + len(names) + columns_after
    for name in failed_arms(results):
        start = results["config"]["arms"][name]["start"]
        lines.append(f"<tr><td>{document.name(name)}</td><td>{document.name(start)}</td>")
        lines.append(f'<td colspan="{span}" class="bad">failed</td></tr>')
    chance = chosen(next(iter(shown.values())))["chance"]
    cells = "<td></td>" * several
    cells += "".join(f'<td class="n">{_percent(chance.get(name))}</td>' for name in names)
    rest = f'<td colspan="{columns_after}"></td>' if published else ""
    lines.append(f'<tr class="chance"><td>chance</td><td></td>{cells}{rest}</tr></table>')
    spread = "standard deviation over the seeds ± " if several else ""
    share = max(share["fraction"] for arm in shown.values() for share in arm["labels"].values())
    labels = "all its labels" if share == 1 else f"{100 * share:g} % of the labels"
    note = (
        f"Percent of {results['test_examples']:,} test images ± {spread}standard error of the test "
        f"set; each arm with {labels} and, if there are several settings, the one it chose. "
        "Chance: guessing always names the most frequent classes."
    )
    if published and results["published"].get("source"):
        note += f" Published: {results['published']['source']}."
    return "".join(lines) + f'<p class="note">{document.text(note)}</p>'


def failures(results: dict[str, Any]) -> str:
    """The runs that failed; empty if there are none."""
    lines = "".join(
        f"<li>{document.text(describe_failure(failure))}</li>" for failure in results["failures"]
    )
    return lines and f"<p>Failed runs, which count nowhere on this page:</p><ul>{lines}</ul>"


def shares(results: dict[str, Any], keys: Sequence[str]) -> str:
    """The main metric of every arm, at each share of the labels, under each setting.

    Args:
      results: see `ssljax.studies.results.collect`.
      keys: of the shares, in increasing order.
    """
    settings = setting_names_of(results)
    span = f' colspan="{len(settings)}"' if len(settings) > 1 else ""
    lines = [f"<table><tr><th>arm, {document.name(label(results['metric']))}</th>"]
    lines += [f'<th class="n"{span}>{100 * float(key):g} %</th>' for key in reversed(keys)]
    lines.append("</tr>")
    if len(settings) > 1:
        lines.append("<tr><th></th>")
        lines += [f'<th class="n">{document.name(name)}</th>' for _ in keys for name in settings]
        lines.append("</tr>")
    failed = {
        (failure["arm"], f"{failure['fraction']:g}", failure["setting"])
        for failure in results["failures"]
        if "arm" in failure
    }
    for name in [*results["arms"], *failed_arms(results)]:
        arm = results["arms"].get(name, {"labels": {}})
        lines.append(f"<tr><td>{document.name(name)}</td>")
        for key in reversed(keys):
            for setting in settings:
                share = arm["labels"].get(key, {"settings": {}, "best": None})
                summary = share["settings"].get(setting)
                text = percent(summary, results["metric"]) if summary else ""
                if summary and summary["missing"]:
                    text += f" ({_seeds(len(summary['runs']))})"
                if not summary and (name, key, setting) in failed:
                    text = "failed"
                bold = len(settings) > 1 and setting == share["best"]
                lines.append(f'<td class="n">{f"<b>{text}</b>" if bold else text}</td>')
        lines.append("</tr>")
    note = "Bold: the setting that the arm chose on validation data." if len(settings) > 1 else ""
    return "".join(lines) + f'</table><p class="note">{note}</p>'


def labels_worth(results: dict[str, Any]) -> str:
    """How many labels random weights need to be as good as each arm; empty if it is not known."""
    found = worth(results)
    if not found:
        return ""
    shares = sorted({share for needs in found.values() for share in needs}, reverse=True)
    head = "".join(f'<th class="n">with {100 * share:g} %</th>' for share in shares)
    lines = [f"<table><tr><th>as good as</th>{head}</tr>"]
    least, *_, most = random_shares(results)
    for name, needs in found.items():
        cells = []
        for share in shares:
            need = needs.get(share)
            text = "" if share not in needs else f"more than {100 * most:g} %"
            if need is not None:
                at_most = "at most " if need == least else ""
                text = f"{at_most}{100 * need:.3g} % ({need / share:.3g} ×)"
            cells.append(f'<td class="n">{text}</td>')
        lines.append(f"<tr><td>{document.name(name)}</td>{''.join(cells)}</tr>")
    note = (
        "The share of the labels that random weights need to reach the arm's accuracy, "
        "interpolated between the shares that they were trained on; of the same seeds."
    )
    return "".join(lines) + f'</table><p class="note">{note}</p>'


def setting_names_of(results: dict[str, Any]) -> list[str]:
    """The names of the settings, the reference setting first."""
    names = {failure["setting"] for failure in results["failures"] if "arm" in failure}
    for arm in results["arms"].values():
        for share in arm["labels"].values():
            names |= set(share["settings"])
    first = results["config"]["reference_setting"]
    return sorted(sorted(names), key=lambda name: name != first)


def pretexts(results: dict[str, Any]) -> str:
    """The test metrics of each pretext task, with chance below them."""
    lines = []
    for name, pretext in results["pretexts"].items():
        keys = metrics(pretext)
        head = "".join(f'<th class="n">{document.name(label(key))}</th>' for key in keys)
        cells = "".join(
            f'<td class="n">{pretext["mean"][key]:.4f} {_spread(pretext, key, 1, 4)}</td>'
            for key in keys
        )
        chance = "".join(
            f'<td class="n">{_number(pretext["chance"].get(key))}</td>' for key in keys
        )
        lines.append(
            f"<table><tr><th>{document.name(name)}</th>{head}</tr><tr><td>test</td>{cells}</tr>"
            f'<tr class="chance"><td>chance</td>{chance}</tr></table>'
        )
    return "".join(lines)


def runs(results: dict[str, Any], pages: Collection[str]) -> str:
    """Every run with its main test metric, and a link to its page.

    Args:
      results: see `ssljax.studies.results.collect`.
      pages: the runs that have a page, such as `seed-0/arm-NAME`.
    """
    lines = ['<h2>Runs</h2><table><tr><th>run</th><th class="n">test</th><th></th></tr>']
    for name, metric, value in _runs(results):
        lines.append(f'<tr><td>{_link(name, pages)}</td><td class="n">{value}</td>')
        lines.append(f"<td>{document.name(metric)}</td></tr>")
    for failure in results["failures"]:
        lines.append(f"<tr><td>{_link(failure['run'], pages)}</td>")
        lines.append('<td class="n bad">failed</td><td></td></tr>')
    return "".join(lines) + "</table>"


def _runs(results: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The name of each run that did not fail, such as `seed-0/arm-NAME`, its metric and value."""
    for pretext in results["pretexts"].values():
        key = next(iter(metrics(pretext)), "loss")
        for run in pretext["runs"]:
            yield run_name(run["folder"]), label(key), f"{run['test'][key]:.4f}"
    key = results["metric"]
    for arm in results["arms"].values():
        for share in arm["labels"].values():
            for summary in share["settings"].values():
                for run in summary["runs"]:
                    value = f"{100 * run['test'][key]:.1f} %"
                    yield run_name(run["folder"]), label(key), value


def run_name(folder: str) -> str:
    """The place of a run in the study's folder, such as `seed-0/arm-NAME`."""
    return "/".join(pathlib.PurePath(folder).parts[-2:])


def _link(name: str, pages: Collection[str]) -> str:
    if name not in pages:
        return document.name(name)
    return f'<a href="{urllib.parse.quote(name)}/report.html">{document.name(name)}</a>'


def percent(summary: dict[str, Any], key: str) -> str:
    """A metric of a summary in percent, with its spread over the seeds."""
    failed = f"({summary['failed']} failed)" if summary["failed"] else ""
    return f"{100 * summary['mean'][key]:.1f} {_spread(summary, key, 100, 1)} {failed}".strip()


def _spread(summary: dict[str, Any], key: str, factor: float, digits: int) -> str:
    spreads = [summary["std"], summary["standard_error"]]
    found = [factor * each[key] for each in spreads if each and key in each]
    return " ".join(f"± {value:.{digits}f}" for value in found)


def _seeds(number: int) -> str:
    return f"{number} seed" if number == 1 else f"{number} seeds"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
