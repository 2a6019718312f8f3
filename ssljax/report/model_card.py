"""The model card of exported weights: a README.md in the format of model hubs."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from ssljax.models.torch.description import Description
from ssljax.models.torch.loading import loadings
from ssljax.report import front_matter, markdown
from ssljax.report.card_results import count, results, trained_on
from ssljax.report.known_data_sets import known
from ssljax.runs.config import defaults_of
from ssljax.runs.saved_evaluations import SavedEvaluation, read_all
from ssljax.runs.trained_model import TrainedModel

_SHOWN = 100  # class names


def render(
    model: TrainedModel, workdir: str | pathlib.Path, description: Description, licence: str = ""
) -> str:
    """The card of a checkpoint's weights.

    Names that come from the run folder are escaped. The folder's own path is left out.

    Args:
      model: the weights.
      workdir: the run folder; its log and the results in it are read.
      description: of the images and the classes.
      licence: of the weights, as the hub names it, such as `apache-2.0`; empty if it is not known.

    Raises:
      InputError: a result or the log is damaged.
    """
    evaluations = read_all(workdir)
    parts = [
        front_matter.render(_front_matter(model, evaluations, licence)),
        f"# {_title(model)}",
        _what_it_is(model, description, licence),
        results(model, workdir, evaluations),
        _loading(model, description),
    ]
    if description.class_names:
        parts.append(_classes(description.class_names))
    return "\n\n".join(parts) + "\n"


def _title(model: TrainedModel) -> str:
    config = model.run.config
    return f"{config.model.name}, {config.method.name} on {markdown.code(config.data.dataset)}"


def _front_matter(
    model: TrainedModel, evaluations: list[SavedEvaluation], licence: str
) -> dict[str, Any]:
    run = model.run
    method, backbone = run.config.method.name, run.config.model.name
    dataset = run.config.data.dataset
    task = "image-classification" if run.method.names_classes else "image-feature-extraction"
    values: dict[str, Any] = {"library_name": "ssljax", "pipeline_tag": task}
    if licence:
        values["license"] = licence
    supervised = [] if run.method.names_classes else ["self-supervised-learning"]
    values["tags"] = list(dict.fromkeys(["ssljax", "jax", "flax", *supervised, method, backbone]))
    if dataset != "unknown":
        values["datasets"] = [known(dataset).on_the_hub]
    found: list[dict[str, Any]] = [
        {
            "task": {"type": task, "name": method},
            "dataset": {
                "type": known(each.dataset).on_the_hub,
                "name": each.dataset,
                "split": each.split,
            },
            "metrics": [
                {
                    "type": "accuracy" if name in ("top1", "accuracy") else name,
                    "name": name,
                    "value": round(value, 6),
                    "args": {"examples": each.examples, "chance": each.chance.get(name)},
                }
                for name, value in each.metrics.items()
                if name != "loss"
            ],
        }
        for each in evaluations
        if each.step == model.step
    ]
    if found:
        name = f"{backbone}-{method}"
        values["metrics"] = list(
            dict.fromkeys(metric["type"] for result in found for metric in result["metrics"])
        )
        values["model-index"] = [{"name": name, "results": found}]
    return values


def _what_it_is(model: TrainedModel, description: Description, licence: str) -> str:
    config = model.run.config
    data = config.data
    imported = model.step == 0
    parameters = sum(leaf.size for leaf in jax.tree.leaves(model.params["backbone"]))
    size = model.run.method.image_size
    of_method, of_model = _options("method", config.method), _options("model", config.model)
    lines = [
        f"method: `{config.method.name}`{of_method}",
        f"backbone: `{config.model.name}`{of_model}, {parameters:,} parameters",
        f"images: {size}×{size} px; when tested, the centre square",
    ]
    if imported:
        lines.append("training: not known; the weights were imported from a file")
    else:
        epoch = "" if description.epoch is None else f", after {_epochs(description.epoch)}"
        lines += [
            f"training: {_epochs(config.epochs)} in batches of {config.batch_size}, from "
            + (
                f"the weights {markdown.code(pathlib.PurePath(config.init_from).name)}"
                if config.init_from
                else "random weights"
            ),
            f"checkpoint: {model.checkpoint}, step {model.step:,}{epoch}",
        ]
    if model.parts["teacher"]:
        lines.append("weights: the student's, not the teacher's")
    lines.append(f"data set: {markdown.code(data.dataset)}")
    if not imported:
        validation = data.validation_split
        lines += [
            f"trained on: {trained_on(model)}",
            f"validated on: split {markdown.code(validation)}{count(model, validation)}",
        ]
    lines += [
        f"licence of the data: {known(data.dataset).licence}",
        f"licence of the weights: {markdown.code(licence) if licence else 'not stated'}",
    ]
    parts = ["\n".join(f"- {line}" for line in lines), "`config.json` has all settings."]
    if not imported and not config.init_from:
        parts[1] += " This trains such weights again:"
        command = "python -m ssljax.train --config=FOLDER/config.json --workdir=NEW_RUN"
        parts.append(markdown.block("", command))
    return "\n\n".join(parts)


def _epochs(count: float) -> str:
    return f"{count:g} epoch" + "s" * (count != 1)


def _loading(model: TrainedModel, description: Description) -> str:
    run = model.run
    parts = ["## How to load it"]
    outputs = len(run.class_names) if run.method.names_classes else None
    for each in loadings(run.config.model, description, outputs):
        parts += [f"### In {each.library}", each.text]
        if each.lines:
            parts.append(markdown.block("python", each.lines))
    lines = 'import ssljax\n\nmodel = ssljax.load_run("RUN")\n'
    if run.method.names_classes:
        lines += 'print(model.classify("image.jpg"))\n'
    lines += (
        f'features = model.features("image.jpg")  # of {model.layer_names[-1]}, float32[1, D]\n'
    )
    parts += [
        "### In ssljax",
        "FOLDER is the folder of this card. RUN is a new run folder, which can also be evaluated, "
        "and started from with `--config.init_from=RUN`.",
        markdown.block("", "python -m ssljax.weights import FOLDER RUN"),
        markdown.block("python", lines),
    ]
    if run.config.data.decoding == "fast":
        parts.append(
            "The run decoded JPEGs with `data.decoding=fast`, and so does ssljax. Pixels that "
            "Pillow decodes and resizes differ by one or two grey levels on average."
        )
    if run.config.model.dtype != "float32":
        parts.append(
            f"ssljax computes in {run.config.model.dtype}, as the run did; in float32 the outputs "
            "differ slightly."
        )
    return "\n\n".join(parts)


def _classes(names: tuple[str, ...]) -> str:
    lines = [f"{index}. {markdown.code(name)}" for index, name in enumerate(names[:_SHOWN])]
    more = [f"\nand {len(names) - _SHOWN:,} more"] * (len(names) > _SHOWN)
    return "\n".join(["## Classes", "", *lines, *more])


def _options(group: str, values: Mapping[str, Any]) -> str:
    """The options that are not the defaults."""
    defaults = defaults_of(group, values["name"])
    changed = {
        name: value
        for name, value in values.items()
        if name not in ("name", "dtype", "remat") and value != defaults.get(name)
    }
    return "".join(f", {markdown.code(f'{name}={value}')}" for name, value in changed.items())
