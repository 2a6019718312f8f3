"""Compares the way from photographs to two views with lightly's transform in a DataLoader.

    python -m benchmarks.photograph_views [--images=512] [--threads=2]

Two views by SimCLR's recipe, at 224 px, and at 32 px without blur. ssljax reads canvases of 256 or
32 px with `data.decoding=fast` in reader processes, and makes the views in a compiled step, on a
device for each core. PyTorch's DataLoader has a process for each core, in which Pillow decodes a
photograph and lightly transforms it; it collates the views. All use the same cores.
`images/s` counts photographs, not views.
"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import numpy as np

from benchmarks import contenders, input_pipeline
from benchmarks.views import CANVAS, LARGE, SMALL, no_draws, view_step


def ssljax_small(**options: Any) -> contenders.Work:
    """Two views at 32 px."""
    return _ssljax(SMALL, **options)


def lightly_small(**options: Any) -> contenders.Work:
    """The same by lightly."""
    return _lightly(SMALL, **options)


def ssljax_large(**options: Any) -> contenders.Work:
    """Two views at 224 px."""
    return _ssljax(LARGE, **options)


def lightly_large(**options: Any) -> contenders.Work:
    """The same by lightly."""
    return _lightly(LARGE, **options)


def _ssljax(side: int, *, folder: str, images: int, threads: int, batch: int) -> contenders.Work:
    step, sharding = view_step(side, threads)
    import jax

    from ssljax.data import pipeline
    from ssljax.data.image_source import ImageSource

    records = input_pipeline.jigsaw_run(folder, images).records(input_pipeline.SPLIT)
    source = ImageSource(records, CANVAS[side], "fast", whole=True)
    epoch = 0

    def put(read: Any) -> Any:
        sizes = np.stack([read["height"], read["width"]], axis=1).astype(np.int32)
        return jax.device_put((read["image"], sizes, read["record"].astype(np.int32)), sharding)

    def work() -> int:
        nonlocal epoch
        batches = input_pipeline.read_epoch(
            source, no_draws, epoch, threads=threads, batch=batch, workers=threads
        )
        for arrays in pipeline.DevicePrefetch(batches, put):
            jax.block_until_ready(step(*arrays, np.int32(epoch)))
        epoch += 1
        return len(source)

    return work


def _lightly(side: int, *, folder: str, images: int, threads: int, batch: int) -> contenders.Work:
    import torch
    from PIL import Image

    from benchmarks.other_pipelines import photographs
    from tests import references

    make = references.load("lightly.transforms").SimCLRTransform
    small = side == SMALL
    transform = make(side, cj_strength=0.5 if small else 1.0, gaussian_blur=0.0 if small else 0.5)

    class Photographs(torch.utils.data.Dataset):
        def __init__(self) -> None:
            self.files = photographs(folder, images)

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, index: int) -> Any:
            return transform(Image.open(self.files[index]).convert("RGB"))

    loader = torch.utils.data.DataLoader(
        Photographs(), batch, shuffle=True, num_workers=threads, persistent_workers=True
    )
    return lambda: sum(len(first) for first, _ in loader)


def main() -> None:
    """Generates the photographs and runs the comparisons."""
    flags = ("images", "threads", "batch")
    parser = contenders.arguments(__doc__.partition("\n")[0], *flags)
    parser.set_defaults(images=512)
    options = parser.parse_args()
    from benchmarks.photographs import deep_fashion

    deep_fashion(pathlib.Path(options.folder), options.images)
    for rivals in (["ssljax_small", "lightly_small"], ["ssljax_large", "lightly_large"]):
        wanted = [rival for rival in rivals if rival in (options.only or rival).split(",")]
        own = argparse.Namespace(**vars(options))
        if wanted:
            contenders.compare(
                "benchmarks.photograph_views", wanted, own, rivals[0], "folder", *flags
            )


if __name__ == "__main__":
    main()
