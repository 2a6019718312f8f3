"""Evaluates a checkpoint on a split: `python -m ssljax.evaluate --help`."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import TYPE_CHECKING, Any

from absl import flags

from ssljax.files import storage
from ssljax.settings.command_line import Command, no_arguments
from ssljax.settings.errors import Diverged, InputError
from ssljax.settings.messages import show

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from ssljax.runs.trained_model import TrainedModel


def evaluate(
    workdir: str | pathlib.Path,
    split: str = "",
    checkpoint: str = "",
    data_dir: str = "",
    dataset: str = "",
) -> dict[str, Any]:
    """Evaluates a run's checkpoint over every example of a split, exactly once each.

    Args:
      workdir: the run folder.
      split: empty is the config's `data.test_split`.
      checkpoint: `best`, `latest` or a step; empty: the one that the method hands over.
      data_dir: where the data set is now, if it is not where the config says. Nothing is written
        to the folder that the config names.
      dataset: TFDS's name of another data set, with the same classes if the method needs labels;
        empty is the run's own.

    Returns:
      `metrics`, `standard_error` (of the metrics, since the split is a sample), `chance` (guessing
      without looking), `examples`, `dataset`, `split`, `checkpoint`, `step`, and if the method
      names classes `class_names`, `confusion`, int[K][K], with true classes in rows and predicted
      ones in columns, and `hits`: for each example, in order, whether its class is predicted, as
      hexadecimal digits (see `ssljax.files.packed_bits.unpacked`).

    Raises:
      InputError: the folder, the checkpoint or the data set is not there, the data set has other
        classes or the images that the run was trained on.
      Diverged: the loss is not finite.
    """
    import jax
    import numpy as np

    from ssljax.devices import processes
    from ssljax.devices.parallelism import own_rows
    from ssljax.files.packed_bits import packed
    from ssljax.runs.contamination import check_lineage_apart
    from ssljax.runs.trained_model import load_run
    from ssljax.training.metrics import MetricSums
    from ssljax.training.validation import Evaluator

    with processes.together():
        model = load_run(workdir, checkpoint)
        run = model.run
        _check_complete(model)
        if not (split or dataset):
            _warn_of_training_images(run.config)
        data = run.config.data
        trained_on = run.config.copy_and_resolve_references()
        data.test_split = split = split or data.test_split
        data.dataset = dataset or data.dataset
        if data_dir:
            run = dataclasses.replace(run, own_data=True)
            data.data_dir = data_dir
        if dataset:
            check_lineage_apart(trained_on, run.config)
        images = run.images(split)

    name = pathlib.PurePath(workdir).name
    processes.say(
        f"{name}  evaluating the {model.checkpoint} checkpoint, step {model.step}, "
        f"on {images.records.name}, {len(images):,} examples"
    )
    names_classes = run.method.names_classes
    total, parts = MetricSums(), []
    for batch, sums, outputs in Evaluator(run, images).batches(model.parts):
        total.add(jax.device_get(sums))
        guess = (
            own_rows(outputs).argmax(axis=-1) if names_classes else np.zeros_like(batch["label"])
        )
        parts.append(np.stack([batch["mask"], batch["label"], guess], axis=1))
    # Every process has a part of every batch: [processes, batches, rows of a part, 3].
    mask, truth, predicted = np.swapaxes(processes.gather(np.stack(parts)), 0, 1).reshape(-1, 3).T
    truth, predicted = truth[mask == 1], predicted[mask == 1]

    metrics = total.means()
    for key, value in metrics.items():
        if not np.isfinite(value):
            raise Diverged(
                f"the {key} of the {model.checkpoint} checkpoint, step {model.step}, is "
                f"{value}: the run has diverged; train again with a lower "
                "optimizer.learning_rate"
            )
    result: dict[str, Any] = {
        "dataset": data.dataset,
        "split": split,
        "checkpoint": model.checkpoint,
        "step": model.step,
        "examples": len(images),
        "metrics": metrics,
        "standard_error": total.standard_errors(),
        "chance": run.method.chance(truth),
    }
    if names_classes:
        confusion = np.zeros((len(run.class_names),) * 2, np.int64)
        np.add.at(confusion, (truth, predicted), 1)
        result |= {
            "class_names": list(run.class_names),
            "confusion": confusion.tolist(),
            "hits": packed(truth == predicted),
        }
    return result


def _warn_of_training_images(config: ConfigDict) -> None:
    """Says if the run was trained on images of its own test split."""
    from ssljax.devices import processes
    from ssljax.runs.contamination import check_apart

    try:
        check_apart(config, config)
    except InputError as error:
        processes.say(f"warning: {error}")


def _check_complete(model: TrainedModel) -> None:
    """Checks that the checkpoint has what the method's loss needs besides the weights.

    Raises:
      InputError: it has not.
    """
    method, name = model.run.method, model.run.config.method.name
    needed = ["teacher"] * method.has_teacher + ["memory"] * bool(method.first_memory())
    if lacks := [part for part in needed if not model.parts[part]]:
        raise InputError(
            f"imported weights have no {' and no '.join(lacks)}, so the loss of {name} cannot be "
            "computed; use their features, or start from them with --config.init_from"
        )


def save(result: dict[str, Any], workdir: str | pathlib.Path) -> None:
    """Writes a JSON file, and the confusion matrix next to it as an image.

    Its place is that of `ssljax.runs.saved_evaluations.path`.

    Raises:
      InputError: the run folder cannot be written.
    """
    import numpy as np

    from ssljax.report import confusion_matrix
    from ssljax.runs import saved_evaluations
    from ssljax.runs.folder import read_config

    own = read_config(workdir).data.dataset == result["dataset"]
    path = saved_evaluations.path(
        workdir, result["split"], result["step"], "" if own else result["dataset"]
    )
    if os.path.islink(path.parent):  # a path in a bucket has no is_symlink
        raise InputError(f"{path.parent} is a link, so results would be written elsewhere")
    try:
        path.parent.mkdir(exist_ok=True)
        storage.write_json(path, result)
        if "confusion" in result:
            image = confusion_matrix.draw(np.array(result["confusion"]), result["class_names"])
            storage.write(path.with_suffix(".png"), image)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def describe(result: dict[str, Any]) -> list[str]:
    """A result as the lines of a table, with chance next to each metric."""
    wide = max(18, *map(len, result["metrics"]))
    lines = [
        f"{result['dataset']}, split {result['split']}: {result['examples']:,} examples, "
        f"{result['checkpoint']} checkpoint, step {result['step']}",
        f"{'metric':{wide}} {'value':>8}   {'chance':>8}   {'std. error':>10}",
    ]
    for name, value in sorted(result["metrics"].items()):
        chance = result["chance"].get(name)
        guess = "" if chance is None else f"{chance:.4f}"
        error = result["standard_error"].get(name)
        spread = "" if error is None else f"{error:.4f}"
        lines.append(f"{name:{wide}} {value:8.4f}   {guess:>8}   {spread:>10}".rstrip())
    return lines


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Evaluates, prints and saves."""
    no_arguments(positional)
    from ssljax.devices import cpu, distributed, processes
    from ssljax.devices.compilation_cache import keep_programs
    from ssljax.runs.folder import read_config

    distributed.join()
    keep_programs()
    cpu.split(read_config(arguments.workdir).cpu_devices)
    result = evaluate(
        arguments.workdir,
        arguments.split,
        arguments.checkpoint,
        arguments.data_dir,
        arguments.dataset,
    )
    if processes.is_first():
        try:
            show(*describe(result))  # first: a folder that cannot be written loses no result
        finally:  # nor does a reader, such as `| head`, that has gone
            save(result, arguments.workdir)


def cli() -> None:
    """The console script `ssljax-evaluate`."""
    command = Command(
        "ssljax-evaluate",
        "Evaluates a run's checkpoint; writes JSON, and a confusion matrix, into its folder.\n"
        "'chance' is what guessing without looking at the image reaches.",
        "python -m ssljax.evaluate --workdir=RUN [--split=SPLIT] [--checkpoint=best|latest|STEP]\n"
        "       [--dataset=NAME] [--data_dir=DIR]",
    )
    command.text("workdir", "a run folder", required=True)
    command.text("split", "a split of the data set (default: the config's data.test_split)")
    command.text(
        "checkpoint",
        "best, latest or a step (default: best for classification, latest for pretext tasks)",
    )
    command.text(
        "dataset", "TFDS's name of another data set with the same classes (default: the run's)"
    )
    command.text("data_dir", "where the data set is prepared (default: where the run found it)")
    command.plugin()
    command.run(main)


if __name__ == "__main__":
    cli()
