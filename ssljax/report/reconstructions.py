"""A sheet of masked images, as a masked autoencoder fills them in."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ssljax.data.image_source import ImageSource
from ssljax.data.order import Step
from ssljax.data.read_batch import ReadBatch
from ssljax.methods.mae import MAE
from ssljax.models.network import variables
from ssljax.report.thumbnails import Sheet, Thumbnail, to_uint8
from ssljax.runs.run import Run
from ssljax.runs.trained_model import TrainedModel
from ssljax.views.keys import record_keys


def sheet(model: TrainedModel, split: str) -> Sheet:
    """The first images of a split: masked, filled in, original."""
    return of_weights(model.run, model.params, model.parts["stats"], split)


def of_weights(run: Run, params: Any, stats: Any, split: str, count: int = 6) -> Sheet:
    """See `sheet`; this process computes it alone, on one device."""
    method, network = run.method, run.evaluation_network()
    assert isinstance(method, MAE)
    records = run.records(split)
    count = min(count, len(records))
    source = ImageSource(records, **run.image_options())
    read = ReadBatch(source, method.draw, run.config.seed, False, False)
    batch = read(Step(0, np.arange(count), np.ones(count, bool)))

    def fill_in(params: Any, stats: Any, batch: Any) -> Any:
        keys = record_keys(run.config.seed, None, batch["record"])
        inputs = method.inputs(batch, keys, train=False)
        outputs: Any = network.apply(variables(params, stats), inputs, method=method.outputs)
        return inputs["image"], method.visible(inputs), method.filled_in(outputs, inputs)

    with jax.default_device(jax.local_devices()[0]):  # other processes do not take part
        weights = jax.device_get((params, stats))
        shown = jax.device_get(jax.jit(fill_in)(*weights, batch))
    originals, visible, filled = (to_uint8(images, method) for images in shown)
    note = f"{method.kept} of {method.patches} patches are visible. The others are filled in" + (
        ", each with its own true mean and contrast." if method.norm_pix_loss else "."
    )
    groups = [
        [Thumbnail(visible[i], "visible"), Thumbnail(filled[i], "filled in"),
         Thumbnail(originals[i], "original")]
        for i in range(count)
    ]  # fmt: skip
    return Sheet("Reconstructions of", note, groups)
