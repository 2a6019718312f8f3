"""Measures what the features of a run are worth: `python -m ssljax.probe --help`."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from ssljax.files import storage
from ssljax.settings.command_line import Command, no_arguments
from ssljax.settings.errors import InputError
from ssljax.settings.messages import show

if TYPE_CHECKING:
    from ssljax.data.image_source import ImageSource
    from ssljax.probes.features import LabelledFeatures
    from ssljax.runs.trained_model import TrainedModel


def probe(
    workdir: str | pathlib.Path,
    probes: Sequence[str] = ("knn", "linear"),
    layer: str = "",
    label_fractions: Sequence[float] = (1.0,),
    draws: int = 5,
    train_split: str = "",
    validation_split: str = "",
    test_split: str = "",
    dataset: str = "",
    data_dir: str = "",
    image_key: str = "",
    label_key: str = "",
    checkpoint: str = "",
    random: bool = False,
    seeds: int = 1,
    first_seed: int = 0,
) -> list[dict[str, Any]]:
    """Classifies images by their features, without changing the backbone.

    Features are computed once for a checkpoint, a layer and a split, and kept in the run folder,
    in `probes`, which can be removed.

    Args:
      workdir: the run folder.
      probes: `knn`, `linear` or both, see `ssljax.probes`.
      layer: of the backbone; empty is the last one.
      label_fractions: shares of the labels of the training images that the probes may use; 5 % are
        part of 10 %.
      draws: of the labels, for each share below 1.
      train_split: images with labels; empty is the config's `data.train_split`.
      validation_split: images that the L2 of `linear` is chosen on, all with labels; empty is the
        config's `data.validation_split`.
      test_split: images to classify; empty is the config's `data.test_split`.
      dataset: TFDS's name of another data set; empty is the run's own.
      data_dir: where the data set is now, if it is not where the config says.
      image_key: the name of the image feature; empty is the config's `data.image_key`.
      label_key: the name of the label feature; empty is the config's `data.label_key`.
      checkpoint: see `ssljax.load_run`.
      random: probe new weights of the run's network, whose batch statistics are those of one pass
        over the training images, and not the run's.
      seeds: with `random`, that many networks.
      first_seed: of the first of them; the others have the next ones.

    Returns:
      A row for each network, probe, share, draw and number of neighbours: what
      `ssljax.probes.protocol.measure` yields, and `layer`, `weights` (`best`, `latest` or
      `random`), `seed`, and `examples` (test images).

    Raises:
      InputError: the run, the checkpoint, the data set or the layer is not there; an image has no
        label; or the test images are among those that the run was trained on, that have labels, or
        that the L2 is chosen on.
    """
    from ssljax.devices import processes
    from ssljax.probes import protocol
    from ssljax.probes.random_weights import with_random_weights
    from ssljax.probes.table import percent
    from ssljax.runs.trained_model import load_run

    protocol.check(probes, label_fractions)
    if seeds > 1 and not random:
        raise InputError("--seeds is for --random: a trained run has one set of weights")
    if checkpoint and random:
        raise InputError("--checkpoint is for trained weights, not for --random")
    folder = storage.path(workdir, "--workdir")
    name = folder.name
    with processes.together():
        trained = load_run(workdir, checkpoint)
        splits = {"train": train_split, "validation": validation_split, "test": test_split}
        if "linear" not in probes:
            del splits["validation"]
        data = trained.run.config.data.copy_and_resolve_references()
        data.dataset, data.data_dir = dataset or data.dataset, data_dir or data.data_dir
        data.image_key, data.label_key = image_key or data.image_key, label_key or data.label_key
        images = _open(trained, data, splits, bool(data_dir), random)
    rows = []
    for seed in range(first_seed, first_seed + seeds):
        model = with_random_weights(trained.run, seed, images["train"]) if random else trained
        layer = layer or model.layer_names[-1]
        kept_in = None if random else folder
        features = {
            split: _features(name, model, layer, images[split], kept_in) for split in images
        }
        for row in protocol.measure(
            probes,
            features["train"],
            features.get("validation"),
            features["test"],
            len(images["train"].records.class_names),
            label_fractions,
            draws,
        ):
            about = {"layer": layer, "weights": model.checkpoint, "seed": model.run.config.seed}
            rows.append({**row, **about, "examples": len(features["test"].labels)})
            chosen = f"k {row['k']}" if "k" in row else f"L2 {row['l2']:g}"
            processes.say(
                f"{name}  {row['probe']}, {chosen}, {row['labels']:,} labels, draw "
                f"{row['draw']}: top-1 {percent([row['top1']])}"
            )
    return rows


def _open(
    model: TrainedModel, data: ConfigDict, splits: Mapping[str, str], own_data: bool, random: bool
) -> dict[str, ImageSource]:
    """The labelled images of splits, by `train`, `validation` and `test`.

    Args:
      model: of the run.
      data: like `config.data`; it gets the names of the splits.
      splits: names; empty ones are those of `data`.
      own_data: whether the user named the data folder, so that labels may be kept there.
      random: whether the run's weights are not used, so that it may have seen the images.
    """
    from ssljax.data.image_source import ImageSource
    from ssljax.data.records import open_records
    from ssljax.runs.contamination import check_apart, check_lineage_apart

    found = {}
    for split, name in splits.items():
        data[f"{split}_split"] = name = name or data[f"{split}_split"]
        records = open_records(
            data.dataset, name, data.data_dir, data.image_key, data.label_key, own_data
        )
        if not records.class_names:
            raise InputError(f"{records.name} has no labels, which probes need")
        found[split] = ImageSource(records.labelled(), model.run.method.image_size, data.decoding)
    config = ConfigDict({"data": data})
    check_apart(config, config, "which are the probe's images with labels")
    if "validation" in splits:
        chosen_on = config.copy_and_resolve_references()
        chosen_on.data.train_split = data.validation_split
        check_apart(chosen_on, config, "on which the L2 is chosen")
    if not random:
        check_lineage_apart(model.run.config, config)
    return found


def _features(
    name: str, model: TrainedModel, layer: str, images: ImageSource, kept_in: pathlib.Path | None
) -> LabelledFeatures:
    """The features of a split, kept in a run folder or computed now."""
    from ssljax.devices import processes
    from ssljax.probes import kept_features
    from ssljax.probes.features import LabelledFeatures, extract
    from ssljax.runs.feature_extraction import FeatureExtractor

    file = kept_features.file_of(kept_in, model, layer, images) if kept_in else None
    if file and (values := kept_features.read(file, len(images))) is not None:
        return LabelledFeatures(values, images.records.labels().astype(np.int32))
    processes.say(f"{name}  features of {len(images):,} images: {images.records.name}")
    extractor = FeatureExtractor(model.run, layer)
    features = extract(extractor, extractor.place(model.params, model.parts["stats"]), images)
    if file:
        kept_features.write(file, features.values)
    return features


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Probes and prints."""
    no_arguments(positional)
    from ssljax.devices import cpu, distributed, processes
    from ssljax.devices.compilation_cache import keep_programs
    from ssljax.probes.table import describe
    from ssljax.runs.folder import read_config

    distributed.join()
    keep_programs()
    cpu.split(read_config(arguments.workdir).cpu_devices)
    names = (
        "layer", "train_split", "validation_split", "test_split", "dataset", "data_dir",
        "image_key", "label_key", "checkpoint", "random",
    )  # fmt: skip
    chosen = {name: arguments[name].value for name in names}
    path = storage.path(arguments.json, "--json") if arguments.json else None
    if path and not storage.is_remote(path) and not path.parent.is_dir():
        raise InputError(f"--json: there is no folder {path.parent}")
    rows = probe(
        arguments.workdir,
        tuple(arguments.probes.split(",")),
        label_fractions=_fractions(arguments.label_fractions),
        draws=arguments.draws,
        seeds=arguments.seeds,
        **chosen,
    )
    if not processes.is_first():
        return
    show(*describe(rows))
    if path:
        try:
            storage.write_json(path, rows)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error


def _fractions(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"--label_fractions must be numbers such as 1,0.1,0.01, got {text}"
        ) from error


def cli() -> None:
    """The console script `ssljax-probe`."""
    command = Command(
        "ssljax-probe",
        "Classifies images by the features of a run, to tell what those are worth. knn: cosine\n"
        "similarity, 20 and 200 neighbours. linear: logistic regression; its L2 is chosen on\n"
        "validation images.",
        "python -m ssljax.probe --workdir=RUN [--probes=knn,linear]\n"
        "       [--label_fractions=1,0.1,0.01] [--layer=LAYER] [--train_split=SPLIT]\n"
        "       [--validation_split=SPLIT] [--test_split=SPLIT] [--random [--seeds=N]]\n"
        "       [--json=FILE]",
    )
    command.text("workdir", "a run folder", required=True)
    command.text("probes", "knn, linear or both", default="knn,linear")
    command.text("label_fractions", "shares of the labels that probes use", default="1")
    command.number("draws", "of the labels, for each share below 1", default=5, at_least=1)
    command.text("train_split", "images with labels (default: the config's data.train_split)")
    command.text(
        "validation_split",
        "images to choose the L2 on (default: the config's data.validation_split)",
    )
    command.text("test_split", "images to classify (default: the config's data.test_split)")
    command.text("layer", "of the backbone, such as conv5 or fc7 (default: the last one)")
    command.switch("random", "probe new weights of the same network, to compare with")
    command.number("seeds", "with --random, so many networks", default=1, at_least=1)
    command.text("checkpoint", "best, latest or a step (default: what the method hands over)")
    command.text("dataset", "TFDS's name of another data set (default: the run's)")
    command.text("data_dir", "where the data set is prepared (default: where the run found it)")
    command.text("image_key", "name of the image feature (default: the config's)")
    command.text("label_key", "name of the label feature (default: the config's)")
    command.text("json", "a file for the rows")
    command.plugin()
    command.run(main)


if __name__ == "__main__":
    cli()
