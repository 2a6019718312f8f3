"""Measures the time that each piece of the input pipeline takes per image, on one core.

    python -m benchmarks.pieces [--images=8192] [--batch=64]

The pieces take turns, and each is timed in its own loop, with `data.decoding=fast`. `batch` is all
that a reader does: every piece except the order of the records. The table has the median over the
rounds, and the fastest round in brackets. The last line compares exact decoding with Pillow alone.
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

EXACT, PILLOW = "exact decoding, cropping, resizing", "the same by Pillow alone"
_BATCHES = 32


def pieces(folder: str, images: int, batch: int) -> dict[str, Callable[[], object]]:
    """The pieces by name. Each function does its piece for `_BATCHES` batches.

    Args:
      folder: the folder of the benchmarks' data.
      images: the number of photographs.
      batch: images in a batch.
    """
    from benchmarks.pillow_images import PillowImages
    from ssljax.data.image_source import ImageSource
    from ssljax.data.order import Order, record_rng
    from ssljax.data.read_batch import ReadBatch

    run = input_pipeline.jigsaw_run(folder, images)
    records, draw = run.records(input_pipeline.SPLIT), run.method.draw
    fast, exact = (ImageSource(records, SIZE, decoding) for decoding in ("fast", "exact"))
    pillow = PillowImages(records, SIZE)
    read = ReadBatch(fast, draw, seed=0, train=True, random_crop=True)
    order = Order(len(records), batch, epochs=_BATCHES, shuffle=True)
    steps = [order[step] for step in range(_BATCHES)]
    numbers = [number for step in steps for number in step.records.tolist()]
    files = [data for data, _ in records.read(numbers)]
    out, rng = np.empty((SIZE, SIZE, 3), np.uint8), np.random.default_rng(0)

    def squares(source: ImageSource) -> None:
        for data in files:
            source.square(data, rng, out)

    def bare() -> None:
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
        "decoding, cropping, resizing": lambda: squares(fast),
        "the same in the bare loop": bare,
        "batch": batches,
        EXACT: lambda: squares(exact),
        PILLOW: lambda: squares(pillow),
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
    pairs = zip(microseconds[PILLOW], microseconds[EXACT], strict=True)
    ratios = [pillow / exact for pillow, exact in pairs]
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(
        f"\nPillow alone takes {middle:.2f} ({low:.2f}–{high:.2f}) times as long as exact decoding."
    )
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(microseconds, indent=1) + "\n")


if __name__ == "__main__":
    main()
