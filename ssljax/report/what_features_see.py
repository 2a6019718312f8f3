"""What the features of networks see: a map of validation images, and nearest neighbours."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from ssljax.data.records import Records
from ssljax.methods.mae import MAE
from ssljax.probes.random_weights import with_random_weights
from ssljax.report import (
    attention_maps,
    document,
    feature_map,
    feature_sample,
    neighbours,
    reconstructions,
)
from ssljax.report.feature_sample import Sample, evenly_spaced, images_for
from ssljax.runs.run import Run
from ssljax.runs.trained_model import TrainedModel


def of_run(run: Run, weights: Mapping[str, Any]) -> list[str]:
    """The parts of a run's page: reconstructions, attention, and the features.

    Random weights are beside the run. With several processes there is no map, since the others do
    not compute features with this one.

    Args:
      run: with the network.
      weights: see `ssljax.training.state.TrainState.weights`.

    Returns:
      HTML; no features if `config.probes.map_images` is 0.
    """
    count, split = run.config.probes.map_images, run.config.data.validation_split
    name, params, stats = run.config.method.name, weights["params"], weights["stats"]
    parts, records = [], run.records(split)
    if isinstance(run.method, MAE):
        drawn = reconstructions.of_weights(run, params, stats, split)
        parts.append(document.sheet(dataclasses.replace(drawn, title="Reconstructions")))
    if attention_maps.has_attention(run):
        parts.append(document.sheet(attention_maps.sheet(name, run, params, records)))
    if count and jax.process_count() == 1:
        some = evenly_spaced(records, count)
        own = feature_sample.draw(run, params, stats, images_for(run, some))
        parts += section([(name, own), _random(run, some)])
    return parts


def of_models(models: Sequence[tuple[str, TrainedModel]], records: Records) -> list[str]:
    """The parts of a study's page: trained networks, and random weights of the first one.

    Args:
      models: with their names.
      records: validation images; those of `config.probes.map_images` of the first run are shown.

    Returns:
      HTML; [] if that is 0, or there are no models.
    """
    if not models or not models[0][1].run.config.probes.map_images:
        return []
    first = models[0][1].run
    records = evenly_spaced(records, first.config.probes.map_images)
    samples, attention = [], []
    for name, model in models:
        params, stats, images = model.params, model.parts["stats"], images_for(model.run, records)
        samples.append((name, feature_sample.draw(model.run, params, stats, images)))
        if attention_maps.has_attention(model.run):
            drawn = attention_maps.sheet(name, model.run, params, records)
            attention.append(document.sheet(drawn))
    return [*section([*samples, _random(first, records)]), *attention]


def _random(run: Run, records: Records) -> tuple[str, Sample]:
    """Random weights, whose batch statistics are those of the same images."""
    images = images_for(run, records)
    model = with_random_weights(run, run.config.seed, images)
    params, stats = model.params, model.parts["stats"]
    return "random weights", feature_sample.draw(model.run, params, stats, images)


def section(samples: Sequence[tuple[str, Sample]]) -> list[str]:
    """The map and the neighbours, with the images that both show.

    Args:
      samples: of the same images, with the names of the networks that have these features.
    """
    style = feature_sample.style(samples[0][1])
    return [style, *feature_map.section(samples), *neighbours.section(samples)]
