"""What an image of the input pipeline is made of: microseconds of one core for each piece.

    python -m benchmarks.pieces [--images=8192] [--batch=64]

Every piece is timed in a loop of its own, in turn, with `data.decoding=fast`; `batch` is all but
the order of the records, as a reader does it. Each number is the median over the rounds, with the
fastest in brackets.
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
    """Functions that each do a piece for `_BATCHES` batches."""
    from ssljax.data import fast_images
    from ssljax.data.order import PADDING, Order, record_rng
    from ssljax.data.pictures import Pictures
    from ssljax.data.read_batch import ReadBatch
    from ssljax.data.records import open_records
    from ssljax.tasks import make_task

    data_dir = input_pipeline.prepared(folder, images)
    records = open_records("deep_fashion/official", "train+validation+test", data_dir)
    task = make_task({"name": "jigsaw", "grid": 3, "tile": SIZE // 3}, data_image_size=SIZE)
    read = ReadBatch(Pictures(records, SIZE, "fast"), task, 0, True, True)
    order = Order(len(records), batch, _BATCHES, shuffle=True)
    steps = [order[step] for step in range(_BATCHES)]
    numbers = [record for _, step in steps for record in step.tolist() if record != PADDING]
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
        "reading and parsing the record": lambda: records.read(numbers),
        "random stream": lambda: [record_rng(0, number, 0) for number in numbers],
        "drawing a permutation": lambda: [task.draw(0, rng, True) for _ in numbers],
        "decoding, cropping, resizing": lambda: squares(files),
        "the same in the bare loop": lambda: bare(files),
        "batch": batches,
    }


def main() -> None:
    """Measures and prints."""
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
    print(f"\n{contenders.machine()}\n\n| piece | µs an image: median (fastest) |\n| --- | --- |")
    for name, values in microseconds.items():
        print(f"| {name} | {statistics.median(values):.1f} ({min(values):.1f}) |")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(microseconds, indent=1) + "\n")


if __name__ == "__main__":
    main()
