"""Evaluates a checkpoint on a split: `python -m ssljax.evaluate --help`."""

from __future__ import annotations

import pathlib
from typing import Any

from absl import flags

from ssljax import storage
from ssljax.command_line import Command
from ssljax.errors import InputError


def evaluate(
    workdir: str | pathlib.Path, split: str = "", checkpoint: str = "", data_dir: str = ""
) -> dict[str, Any]:
    """Evaluates a run's checkpoint over every example of a split, exactly once each.

    Args:
      workdir: the run folder.
      split: empty is the config's `data.test_split`.
      checkpoint: `best`, `latest` or a step; empty is what the task hands over.
      data_dir: where the data set is now, if not where the config says.

    Returns:
      `metrics`, `floor` (guessing without looking), `examples`, `split`,
      `checkpoint`, `step`, and for a classification `class_names` and `confusion`, int[K][K], with
      true classes in rows and predicted ones in columns.

    Raises:
      InputError: the folder, the checkpoint or the data set is not there.
    """
    import jax
    import numpy as np

    from ssljax.trained_model import load_run
    from ssljax.training import processes
    from ssljax.training.evaluation import Evaluator
    from ssljax.training.metrics import MetricSums
    from ssljax.training.parallelism import own_rows

    with processes.together():
        model = load_run(workdir, checkpoint)
        run = model.run
        split = split or run.config.data.test_split
        run.config.data.data_dir = data_dir or run.config.data.data_dir
        pictures = run.pictures(split)

    total, classified = MetricSums(), []
    for batch, sums, outputs in Evaluator(run, pictures).batches(model.params):
        total.add(jax.device_get(sums))
        pair = np.stack([batch["label"], own_rows(outputs).argmax(axis=-1)], axis=1)
        classified.append(np.where(batch["mask"][:, None], pair, -2))
    pairs = processes.gather(np.concatenate(classified)).reshape(-1, 2)
    truth, predicted = pairs[pairs[:, 0] > -2].T

    result: dict[str, Any] = {
        "split": split,
        "checkpoint": model.checkpoint,
        "step": model.step,
        "examples": len(pictures),
        "metrics": total.means(),
        "floor": run.task.floor(truth),
    }
    if run.task.needs_labels:
        confusion = np.zeros((len(run.class_names),) * 2, np.int64)
        np.add.at(confusion, (truth, predicted), 1)
        result |= {"class_names": list(run.class_names), "confusion": confusion.tolist()}
    return result


def save(result: dict[str, Any], workdir: str | pathlib.Path) -> None:
    """Writes `evaluation/SPLIT-step-STEP.json`, and the confusion matrix beside it as a picture.

    Raises:
      InputError: the run folder cannot be written.
    """
    import numpy as np

    from ssljax.report import confusion_matrix
    from ssljax.training.run_folder import write_json

    path = result_path(workdir, result["split"], result["step"])
    try:
        path.parent.mkdir(exist_ok=True)
        if "confusion" in result:
            picture = confusion_matrix.draw(np.array(result["confusion"]), result["class_names"])
            storage.write(path.with_suffix(".png"), picture)
        write_json(path, result)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def result_path(workdir: str | pathlib.Path, split: str, step: int) -> pathlib.Path:
    """Where the result of a split, such as `images[80%:90%]`, at a step is written."""
    name = "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in split)
    return storage.path(workdir, "--workdir") / "evaluation" / f"{name}-step-{step}.json"


def describe(result: dict[str, Any]) -> str:
    """A result as a table, with the floor beside each metric."""
    lines = [
        f"{result['split']}: {result['examples']:,} examples, "
        f"{result['checkpoint']} checkpoint, step {result['step']}",
        f"{'metric':18} {'value':>8}   {'guessing':>8}",
    ]
    for name, value in sorted(result["metrics"].items()):
        floor = result["floor"].get(name)
        lines.append(
            f"{name:18} {value:8.4f}   {'' if floor is None else f'{floor:8.4f}'}".rstrip()
        )
    return "\n".join(lines)


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Evaluates and prints."""
    if positional:
        raise InputError(f"unexpected argument {positional[0]!r}; see --help")
    from ssljax.training import distributed, processes
    from ssljax.training.parallelism import split_cpu
    from ssljax.training.run_folder import read_config

    distributed.join()
    split_cpu(read_config(arguments.workdir).batch_size)
    result = evaluate(arguments.workdir, arguments.split, arguments.checkpoint, arguments.data_dir)
    if processes.is_first():
        print(describe(result))
        save(result, arguments.workdir)


def cli() -> None:
    """The console script `ssljax-evaluate`."""
    command = Command(
        "ssljax-evaluate",
        "Evaluates a run's checkpoint; writes JSON and a confusion matrix into its folder.\n"
        "'guessing' is what always naming the most frequent classes reaches.",
        "python -m ssljax.evaluate --workdir=RUN [--split=SPLIT] [--checkpoint=best|latest|STEP]\n"
        "       [--data_dir=DIR]",
    )
    command.text("workdir", "a run folder", required=True)
    command.text("split", "a split of the run's data set; else its config's data.test_split")
    command.text(
        "checkpoint", "best, latest or a step; else best for a classification, latest for a pretext"
    )
    command.text("data_dir", "where the data set is prepared; else where the run found it")
    command.run(main)


if __name__ == "__main__":
    cli()
