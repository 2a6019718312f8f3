"""Writes a study's results.json and its page."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ssljax.files import storage
from ssljax.report import budgets, sheets, study_page, what_features_see
from ssljax.runs.config import resolve
from ssljax.runs.metrics_log import read_metrics
from ssljax.runs.run import open_run
from ssljax.runs.trained_model import TrainedModel, load_run
from ssljax.settings.messages import say
from ssljax.studies.results import chosen


def write(
    config: ConfigDict,
    results: dict[str, Any],
    confusions: Mapping[str, np.ndarray],
    folder: pathlib.Path,
) -> None:
    """Writes both into the study's folder.

    Args:
      config: of the study.
      results: see `ssljax.studies.results.collect`.
      confusions: see `ssljax.studies.results.confusions`.
      folder: of the study.
    """
    storage.write_json(folder / "results.json", results)
    drawn, costs, pretexts = [], {}, []
    for name, pretext in results["pretexts"].items():
        run_folder = pretext["runs"][0]["folder"]
        model = load_run(run_folder)
        drawn += sheets.draw(name, model, model.run.config.data.validation_split)
        costs[f"pretext {name}"] = budgets.of_run(model, read_metrics(run_folder))
        pretexts.append((name, model))
    for name, arm in results["arms"].items():
        run_folder = chosen(arm)["runs"][0]["folder"]
        model = load_run(run_folder)
        drawn += sheets.draw(name, model, model.run.config.data.test_split)
        costs[f"arm {name}"] = budgets.of_run(model, read_metrics(run_folder))
    seen = _seen(config, pretexts)
    pages = {
        f"{page.parent.parent.name}/{page.parent.name}"
        for page in folder.glob("seed-*/*/report.html")
    }
    text = study_page.render(results, confusions, drawn, pages, costs, seen)
    storage.write_text(folder / "report.html", text)


def _seen(config: ConfigDict, pretexts: Sequence[tuple[str, TrainedModel]]) -> list[str]:
    """What features see; [] if that fails, because the numbers of a study matter more."""
    try:
        labelled = open_run(resolve(config.classification))
        validation = labelled.records(config.classification.data.validation_split)
        return what_features_see.of_models(pretexts, validation)
    except Exception as error:
        reason = str(error) or type(error).__name__
        say(f"the study's page has no features: {reason.splitlines()[0]}")
        return []
