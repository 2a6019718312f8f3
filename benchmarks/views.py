"""Compares the making of two views with lightly's SimCLR transform, and its input with a puzzle's.

    python -m benchmarks.views [--images=2048] [--threads=2]

Two views by SimCLR's recipe are made of each of 64 images at 32 px (without blur, and with half
the strength of colour, as SimCLR has it for CIFAR-10) and at 224 px. ssljax makes them of canvases
of 32 and 256 px in a compiled step; `one_device` does so on one CPU device, the others on one for
each core. lightly makes them of Pillow images of the same size in a process on each core. It
neither collates them nor passes them on.

The inputs are read from the same photographs: squares of 225 px for 3×3 puzzles, and canvases of
225 and 256 px, for any number of views. `images/s` counts images, not views.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import multiprocessing
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import contenders, input_pipeline

SMALL, LARGE = 32, 224  # sides of the views, in pixels
CANVAS = {SMALL: 32, LARGE: 256}
_REPEATS = {SMALL: 20, LARGE: 1}  # of a batch in each turn


def ssljax_small(**options: Any) -> contenders.Work:
    """Two views at 32 px, on a device for each core."""
    return _ssljax(SMALL, options["threads"], options["batch"])


def one_device_small(**options: Any) -> contenders.Work:
    """The same on one device."""
    return _ssljax(SMALL, 1, options["batch"])


def lightly_small(**options: Any) -> contenders.Work:
    """The same by lightly."""
    return _lightly(SMALL, options["threads"], options["batch"])


def ssljax_large(**options: Any) -> contenders.Work:
    """Two views at 224 px, on a device for each core."""
    return _ssljax(LARGE, options["threads"], options["batch"])


def one_device_large(**options: Any) -> contenders.Work:
    """The same on one device."""
    return _ssljax(LARGE, 1, options["batch"])


def lightly_large(**options: Any) -> contenders.Work:
    """The same by lightly."""
    return _lightly(LARGE, options["threads"], options["batch"])


def puzzle(**options: Any) -> contenders.Work:
    """The input of 3×3 puzzles: squares of 225 px and permutations."""
    return _input(0, **options)


def canvas(**options: Any) -> contenders.Work:
    """The input of views: canvases of 225 px."""
    return _input(225, **options)


def larger_canvas(**options: Any) -> contenders.Work:
    """The input of views: canvases of 256 px."""
    return _input(256, **options)


def _canvases(side: int, count: int) -> np.ndarray:
    """uint8[count, side, side, 3]: photographs squashed to a square."""
    from benchmarks.photographs import photograph
    from ssljax.data import images

    found = np.empty((count, side, side, 3), np.uint8)
    for index in range(count):
        images.squash(images.decode(photograph(index)), found[index])
    return found


def view_step(side: int, devices: int) -> tuple[Callable[..., Any], Any]:
    """The step that makes two views of canvases, and the sharding of its arrays.

    The step takes uint8[B, side, side, 3], int32[B, 2] sizes, int32[B] records and the epoch.
    """
    from ssljax.devices import cpu

    cpu.split(devices)
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from ssljax.views.augment import make_views
    from ssljax.views.keys import record_keys
    from ssljax.views.recipes import recipe

    made = recipe("simclr_small" if side == SMALL else "simclr")
    mesh = Mesh(np.array(jax.devices()[:devices]), "data")
    spec = PartitionSpec("data")

    def views(images: jax.Array, sizes: jax.Array, records: jax.Array, epoch: jax.Array) -> Any:
        return make_views(images, sizes, record_keys(0, epoch, records), made, side)

    step = jax.jit(
        jax.shard_map(
            views,
            mesh=mesh,
            in_specs=(spec, spec, spec, PartitionSpec()),
            out_specs=spec,
            check_vma=False,
        )
    )
    return step, NamedSharding(mesh, spec)


def _ssljax(side: int, devices: int, batch: int) -> contenders.Work:
    step, sharding = view_step(side, devices)
    import jax

    canvases = _canvases(CANVAS[side], batch)
    sizes = np.full((batch, 2), CANVAS[side], np.int32)
    arrays = jax.device_put((canvases, sizes, np.arange(batch, dtype=np.int32)), sharding)
    epoch = 0

    def work() -> int:
        nonlocal epoch
        for _ in range(_REPEATS[side]):
            jax.block_until_ready(step(*arrays, np.int32(epoch)))
            epoch += 1
        return _REPEATS[side] * batch

    return work


def _lightly(side: int, processes: int, batch: int) -> contenders.Work:
    if not importlib.util.find_spec("lightly"):
        raise ImportError("No module named 'lightly'")  # before processes start
    pool = multiprocessing.get_context("spawn").Pool(processes)
    canvases = _canvases(CANVAS[side], batch)
    parts = np.array_split(canvases, processes)
    pool.map(functools.partial(_transform, side, 1), parts)  # imports, before time is measured

    def work() -> int:
        return sum(pool.map(functools.partial(_transform, side, _REPEATS[side]), parts))

    return work


def _transform(side: int, repeats: int, canvases: np.ndarray) -> int:
    """Transforms the images in one of lightly's processes; returns how many."""
    from PIL import Image

    from tests import references

    references.load("torch").set_num_threads(1)
    references.load("torchvision")
    make = references.load("lightly.transforms").SimCLRTransform
    small = side == SMALL
    transform = make(side, cj_strength=0.5 if small else 1.0, gaussian_blur=0.0 if small else 0.5)
    images = [Image.fromarray(canvas) for canvas in canvases]
    for _ in range(repeats):
        for image in images:
            transform(image)
    return repeats * len(images)


def _input(side: int, *, folder: str, images: int, threads: int, batch: int) -> contenders.Work:
    """Reads squares of 225 px for puzzles (side 0), or canvases of a side."""
    from ssljax.data.image_source import ImageSource

    run = input_pipeline.jigsaw_run(folder, images)
    records = run.records(input_pipeline.SPLIT)
    source = ImageSource(records, side or run.method.image_size, "fast", whole=bool(side))
    draw = no_draws if side else run.method.draw
    return input_pipeline.epochs(source, draw, threads=threads, batch=batch, workers=threads)


def no_draws(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The draws of a method that makes views: there are none on the host."""
    return {}


def main() -> None:
    """Generates the photographs and runs the comparisons."""
    flags = ("images", "threads", "batch")
    parser = contenders.arguments(__doc__.partition("\n")[0], *flags)
    parser.set_defaults(images=2048)
    options = parser.parse_args()
    from benchmarks.photographs import deep_fashion

    deep_fashion(pathlib.Path(options.folder), options.images)
    for name, rivals in (
        ("small", ["ssljax_small", "one_device_small", "lightly_small"]),
        ("large", ["ssljax_large", "one_device_large", "lightly_large"]),
        ("input", ["canvas", "larger_canvas", "puzzle"]),
    ):
        wanted = [rival for rival in rivals if rival in (options.only or rival).split(",")]
        own = argparse.Namespace(**vars(options))
        if own.json:
            file = pathlib.Path(own.json)
            own.json = str(file.with_name(f"{file.stem}_{name}{file.suffix}"))
        if wanted:
            contenders.compare("benchmarks.views", wanted, own, rivals[0], "folder", *flags)


if __name__ == "__main__":
    main()
