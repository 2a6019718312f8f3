"""Evaluates a checkpoint on a split: `python -m ssljax.evaluate --help`."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from absl import flags

from ssljax.files import storage
from ssljax.settings.command_line import Command, no_arguments
from ssljax.settings.errors import InputError


def evaluate(
    workdir: str | pathlib.Path, split: str = "", checkpoint: str = "", data_dir: str = ""
) -> dict[str, Any]:
    """Evaluates a run's checkpoint over every example of a split, exactly once each.

    Args:
      workdir: the run folder.
      split: empty is the config's `data.test_split`.
      checkpoint: `best`, `latest` or a step; empty: the one that the method hands over.
      data_dir: where the data set is now, if it is not where the config says. Nothing is written
        to the folder that the config names.

    Returns:
      `metrics`, `chance` (guessing without looking), `examples`, `split`, `checkpoint`, `step`, and
      if the method names classes `class_names` and `confusion`, int[K][K], with true classes in
      rows and predicted ones in columns.

    Raises:
      InputError: the folder, the checkpoint or the data set is not there.
    """
    import jax
    import numpy as np

    from ssljax.devices import processes
    from ssljax.devices.parallelism import own_rows
    from ssljax.runs.trained_model import load_run
    from ssljax.training.metrics import MetricSums
    from ssljax.training.validation import Evaluator

    with processes.together():
        model = load_run(workdir, checkpoint)
        run = model.run
        split = split or run.config.data.test_split
        if data_dir:
            run = dataclasses.replace(run, own_data=True)
            run.config.data.data_dir = data_dir
        images = run.images(split)

    names_classes = run.method.names_classes
    total, parts = MetricSums(), []
    for batch, sums, outputs in Evaluator(run, images).batches(model.parts):
        total.add(jax.device_get(sums))
        guess = (
            own_rows(outputs).argmax(axis=-1) if names_classes else np.zeros_like(batch["label"])
        )
        parts.append(np.stack([batch["mask"], batch["label"], guess], axis=1))
    mask, truth, predicted = processes.gather(np.concatenate(parts)).reshape(-1, 3).T
    truth, predicted = truth[mask == 1], predicted[mask == 1]

    result: dict[str, Any] = {
        "split": split,
        "checkpoint": model.checkpoint,
        "step": model.step,
        "examples": len(images),
        "metrics": total.means(),
        "chance": run.method.chance(truth),
    }
    if names_classes:
        confusion = np.zeros((len(run.class_names),) * 2, np.int64)
        np.add.at(confusion, (truth, predicted), 1)
        result |= {"class_names": list(run.class_names), "confusion": confusion.tolist()}
    return result


def save(result: dict[str, Any], workdir: str | pathlib.Path) -> None:
    """Writes `evaluation/SPLIT-step-STEP.json`, and the confusion matrix next to it as an image.

    Raises:
      InputError: the run folder cannot be written.
    """
    import numpy as np

    from ssljax.report import confusion_matrix

    path = result_path(workdir, result["split"], result["step"])
    try:
        path.parent.mkdir(exist_ok=True)
        storage.write_json(path, result)
        if "confusion" in result:
            image = confusion_matrix.draw(np.array(result["confusion"]), result["class_names"])
            storage.write(path.with_suffix(".png"), image)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def result_path(workdir: str | pathlib.Path, split: str, step: int) -> pathlib.Path:
    """Where the result of a split, such as `images[80%:90%]`, at a step is written."""
    name = "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in split)
    return storage.path(workdir, "--workdir") / "evaluation" / f"{name}-step-{step}.json"


def describe(result: dict[str, Any]) -> str:
    """A result as a table, with chance next to each metric."""
    lines = [
        f"{result['split']}: {result['examples']:,} examples, "
        f"{result['checkpoint']} checkpoint, step {result['step']}",
        f"{'metric':18} {'value':>8}   {'chance':>8}",
    ]
    for name, value in sorted(result["metrics"].items()):
        chance = result["chance"].get(name)
        lines.append(
            f"{name:18} {value:8.4f}   {'' if chance is None else f'{chance:8.4f}'}".rstrip()
        )
    return "\n".join(lines)


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Evaluates and prints."""
    no_arguments(positional)
    from ssljax.devices import cpu, distributed, processes
    from ssljax.devices.compilation_cache import keep_programs
    from ssljax.runs.folder import read_config

    distributed.join()
    keep_programs()
    cpu.split(read_config(arguments.workdir).cpu_devices)
    result = evaluate(arguments.workdir, arguments.split, arguments.checkpoint, arguments.data_dir)
    if processes.is_first():
        print(describe(result))
        save(result, arguments.workdir)


def cli() -> None:
    """The console script `ssljax-evaluate`."""
    command = Command(
        "ssljax-evaluate",
        "Evaluates a run's checkpoint; writes JSON, and a confusion matrix, into its folder.\n"
        "'chance' is what guessing without looking at the image reaches.",
        "python -m ssljax.evaluate --workdir=RUN [--split=SPLIT] [--checkpoint=best|latest|STEP]\n"
        "       [--data_dir=DIR]",
    )
    command.text("workdir", "a run folder", required=True)
    command.text("split", "a split of the run's data set (default: its config's data.test_split)")
    command.text(
        "checkpoint",
        "best, latest or a step (default: best for classification, latest for pretext tasks)",
    )
    command.text("data_dir", "where the data set is prepared (default: where the run found it)")
    command.plugin()
    command.run(main)


if __name__ == "__main__":
    cli()
