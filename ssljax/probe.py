"""Measures what the features of a run are worth: `python -m ssljax.probe --help`."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from ssljax.files import storage
from ssljax.settings.command_line import Command, no_arguments
from ssljax.settings.errors import InputError
from ssljax.settings.messages import say, show

if TYPE_CHECKING:
    from ssljax.data.image_source import ImageSource
    from ssljax.runs.trained_model import TrainedModel


def probe(
    workdir: str | pathlib.Path,
    layer: str = "",
    train_split: str = "",
    test_split: str = "",
    dataset: str = "",
    data_dir: str = "",
    checkpoint: str = "",
    random: bool = False,
    seeds: int = 1,
) -> list[dict[str, Any]]:
    """Classifies the images of a split by the most similar features of another split.

    Args:
      workdir: the run folder.
      layer: of the backbone; empty is the last one.
      train_split: images with labels; empty is the config's `data.train_split`.
      test_split: images to classify; empty is the config's `data.test_split`.
      dataset: TFDS's name of another data set; empty is the run's own.
      data_dir: where the data set is now, if it is not where the config says.
      checkpoint: see `ssljax.load_run`.
      random: probe new weights of the run's network, whose batch statistics are those of one pass
        over the training images, and not the run's.
      seeds: with `random`, that many networks.

    Returns:
      A row for each network and number of neighbours: `probe`, `k`, `weights` (`best`, `latest` or
      `random`), `seed`, `examples`, and the shares `top1`, `top3`, `top5` and `class_mean`.

    Raises:
      InputError: the run, the checkpoint, the data set or the layer is not there; an image has no
        label; or the test images are among those that the run was trained on.
    """
    from ssljax.probes import knn
    from ssljax.probes.accuracy import accuracies
    from ssljax.probes.random_weights import with_random_weights
    from ssljax.runs.trained_model import load_run

    if seeds > 1 and not random:
        raise InputError("--seeds is for --random: a trained run has one set of weights")
    trained = load_run(workdir, checkpoint)
    bank, tested, classes = _open(trained, train_split, test_split, dataset, data_dir, random)
    rows = []
    for seed in range(seeds):
        say(f"{pathlib.PurePath(workdir).name}  features of {len(bank) + len(tested):,} images")
        model = with_random_weights(trained, seed, bank) if random else trained
        known, labels = _features(model, bank, layer)
        unknown, truth = _features(model, tested, layer)
        for count, scores in knn.votes(known, labels, unknown, classes).items():
            about = {"probe": "knn", "k": count, "weights": model.checkpoint}
            about |= {"seed": model.run.config.seed, "examples": len(truth)}
            rows.append(about | accuracies(scores, truth))
    return rows


def _open(
    model: TrainedModel, train: str, test: str, dataset: str, data_dir: str, random: bool
) -> tuple[ImageSource, ImageSource, int]:
    """The images with labels, those to classify, and the number of classes."""
    from ssljax.data.image_source import ImageSource
    from ssljax.data.records import open_records
    from ssljax.runs.contamination import check_apart

    config = model.run.config.copy_and_resolve_references()
    data = config.data
    data.dataset, data.data_dir = dataset or data.dataset, data_dir or data.data_dir
    data.train_split, data.test_split = train or data.train_split, test or data.test_split

    def images(split: str) -> ImageSource:
        records = open_records(
            data.dataset, split, data.data_dir, data.image_key, data.label_key, bool(data_dir)
        )
        if not records.class_names:
            raise InputError(f"{records.name} has no labels, which probes need")
        return ImageSource(records.labelled(), model.run.method.image_size, data.decoding)

    found = images(data.train_split), images(data.test_split)
    check_apart(config, config, "which are the probe's images with labels")
    own = model.run.config.data
    if not random and (own.dataset, own.train_split) != (data.dataset, data.train_split):
        check_apart(model.run.config, config)
    return *found, len(found[0].records.class_names)


def _features(
    model: TrainedModel, images: ImageSource, layer: str
) -> tuple[np.ndarray, np.ndarray]:
    """float32[N, D] and int32[N]."""
    batches = list(model.feature_batches(images, layer))
    features = [batch.features.reshape(len(batch.labels), -1) for batch in batches]
    return np.concatenate(features), np.concatenate([batch.labels for batch in batches])


def describe(rows: list[dict[str, Any]]) -> str:
    """The rows as a table in percent, and their mean and spread if there are several seeds."""
    metrics = [name for name in rows[0] if name.startswith("top") or name == "class_mean"]
    lines = [f"{'probe':8} {'k':>4} {'weights':>8} {'seed':>5}" + _cells(metrics)]
    for row in rows:
        start = f"{row['probe']:8} {row['k']:4} {row['weights']:>8} {row['seed']:5}"
        lines.append(start + _cells(f"{100 * row[name]:.1f}" for name in metrics))
    for count in dict.fromkeys(row["k"] for row in rows):
        same = [row for row in rows if row["k"] == count]
        if len(same) > 1:
            values = np.array([[100 * row[name] for name in metrics] for row in same])
            spread = zip(values.mean(axis=0), values.std(axis=0, ddof=1), strict=True)
            start = f"{'knn':8} {count:4} {'mean of':>8} {len(same):5}"
            lines.append(start + _cells(f"{mean:.1f} ± {std:.1f}" for mean, std in spread))
    return "\n".join(lines)


def _cells(texts: Any) -> str:
    return "".join(f" {text:>12}" for text in texts)


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Probes and prints."""
    no_arguments(positional)
    from ssljax.devices import cpu
    from ssljax.devices.compilation_cache import keep_programs
    from ssljax.runs.folder import read_config

    keep_programs()
    cpu.split(read_config(arguments.workdir).cpu_devices)
    names = ("layer", "train_split", "test_split", "dataset", "data_dir", "checkpoint", "random")
    chosen = {name: arguments[name].value for name in (*names, "seeds")}
    rows = probe(arguments.workdir, **chosen)
    show(describe(rows))
    if arguments.json:
        path = storage.path(arguments.json, "--json")
        try:
            storage.write_json(path, rows)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error


def cli() -> None:
    """The console script `ssljax-probe`."""
    command = Command(
        "ssljax-probe",
        "Classifies images by those with labels whose features are the most similar: kNN with the\n"
        "cosine similarity, 20 and 200 neighbours. It tells what a run's features are worth.",
        "python -m ssljax.probe --workdir=RUN [--train_split=SPLIT] [--test_split=SPLIT]\n"
        "       [--layer=LAYER] [--random [--seeds=N]] [--json=FILE]",
    )
    command.text("workdir", "a run folder", required=True)
    command.text("train_split", "images with labels (default: the config's data.train_split)")
    command.text("test_split", "images to classify (default: the config's data.test_split)")
    command.text("layer", "of the backbone, such as conv5 or fc7 (default: the last one)")
    command.switch("random", "probe new weights of the same network, the floor of comparisons")
    command.number("seeds", "with --random, so many networks", default=1, at_least=1)
    command.text("checkpoint", "best, latest or a step (default: what the method hands over)")
    command.text("dataset", "TFDS's name of another data set (default: the run's)")
    command.text("data_dir", "where the data set is prepared (default: where the run found it)")
    command.text("json", "a file for the rows")
    command.plugin()
    command.run(main)


if __name__ == "__main__":
    cli()
