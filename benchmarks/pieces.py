"""Measures the time that each piece of the input pipeline takes per image, on one core.

    python -m benchmarks.pieces [--images=8192] [--batch=64]

The pieces take turns, and each is timed in its own loop, with `data.decoding=fast`. `batch` is all
that a reader does: every piece except the order of the records. The table has the median over the
rounds, and the fastest round in brackets.
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import time
from collections.abc import Callable

import numpy as np

from benchmarks import contenders, input_pipeline
from benchmarks.other_pipelines import SIZE, decode_crop_resize

_BATCHES = 32


def pieces(folder: str, images: int, batch: int) -> dict[str, Callable[[], object]]:
    """The pieces by name. Each function does its piece for `_BATCHES` batches.

    Args:
      folder: the folder of the benchmarks' data.
      images: the number of photographs.
      batch: images in a batch.
    """
    from ssljax.data import fast_images
    from ssljax.data.image_source import ImageSource
    from ssljax.data.order import Order, record_rng
    from ssljax.data.read_batch import ReadBatch

    run = input_pipeline.jigsaw_run(folder, images)
    records, draw = run.records(input_pipeline.SPLIT), run.method.draw
    read = ReadBatch(ImageSource(records, SIZE, "fast"), draw, seed=0, train=True, random_crop=True)
    order = Order(len(records), batch, epochs=_BATCHES, shuffle=True)
    steps = [order[step] for step in range(_BATCHES)]
    numbers = [number for step in steps for number in step.records.tolist()]
    files = [data for data, _ in records.read(numbers)]
    out, rng = np.empty((SIZE, SIZE, 3), np.uint8), np.random.default_rng(0)

    def squares(files: list[bytes]) -> None:
        for data in files:
            fast_images.square(data, rng, out)

    def bare(files: list[bytes]) -> None:
        for data in files:
            decode_crop_resize(data)

    def batches() -> None:
        for step in steps:
            read(step)

    return {
        "order": lambda: [order[step] for step in range(_BATCHES)],
        "reading and parsing a record": lambda: records.read(numbers),
        "random stream": lambda: [record_rng(0, number, 0) for number in numbers],
        "drawing a permutation": lambda: [draw(rng) for _ in numbers],
        "decoding, cropping, resizing": lambda: squares(files),
        "the same in the bare loop": lambda: bare(files),
        "batch": batches,
    }


def main() -> None:
    """Measures the pieces and prints a table."""
    parser = contenders.arguments(__doc__.partition("\n")[0], "images", "batch")
    options = parser.parse_args()
    from benchmarks.photographs import deep_fashion

    deep_fashion(pathlib.Path(options.folder), options.images)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    timed = pieces(options.folder, options.images, options.batch)
    microseconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(options.rounds):
        for name, piece in timed.items():
            start = time.perf_counter()
            piece()
            seconds = time.perf_counter() - start
            microseconds[name].append(seconds / (_BATCHES * options.batch) * 1e6)
    print(f"\n{contenders.machine()}\n\n| piece | µs per image: median (fastest) |\n| --- | --- |")
    for name, values in microseconds.items():
        print(f"| {name} | {statistics.median(values):.1f} ({min(values):.1f}) |")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(microseconds, indent=1) + "\n")


if __name__ == "__main__":
    main()
