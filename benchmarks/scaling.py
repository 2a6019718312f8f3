"""Measures the effect of larger data sets and of more devices.

    python -m benchmarks.scaling [--records=10000,100000,1000000] [--devices=1,2]

The records are small images, so that overhead is visible. For each size, a new process opens the
data set, starts in the middle of the third epoch like a run that continues, and reads 20,000
records in random order. For each number of devices, the step of `benchmarks.train_step` is timed. A
CPU is split into that many devices.
"""

from __future__ import annotations

import io
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import contenders

NAME = "small_images"
SIZE = 64  # of the images, in pixels
READ = 20_000


def prepare(folder: str, sizes: list[int]) -> list[str]:
    """Writes a data set of small JPEGs for each size, unless it exists.

    Args:
      folder: the folder of the benchmarks' data.
      sizes: the numbers of records.

    Returns:
      The data_dir of each data set.
    """
    import tensorflow_datasets as tfds
    from PIL import Image

    from benchmarks.photographs import photograph

    files = []
    for index in range(64):
        small = io.BytesIO()
        Image.open(io.BytesIO(photograph(index))).resize((SIZE, SIZE)).save(small, "JPEG")
        files.append(small.getvalue())

    class SmallImages(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        records = 0
        pkg_dir_path = pathlib.Path(__file__).parent

        def _info(self) -> Any:
            image = tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="jpeg")
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict({"image": image})
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
            for index in range(self.records):
                yield index, {"image": files[index % len(files)]}

    data_dirs = []
    for records in sizes:
        SmallImages.records = records
        data_dirs.append(f"{folder}/small-{records}")
        builder = SmallImages(data_dir=data_dirs[-1], file_format="array_record")
        if not builder.is_prepared():
            builder.download_and_prepare()
    return data_dirs


def read(data_dir: str) -> dict[str, float]:
    """Opens a data set, starts in the middle and reads; returns the measurements."""
    from ssljax import train_config
    from ssljax.data import pipeline
    from ssljax.runs.run import make_run

    config = train_config("jigsaw")
    config.method.grid, config.method.tile = 2, SIZE // 2
    config.data.dataset, config.data.data_dir = NAME, data_dir
    config.data.decoding = "fast"
    run = make_run(config, class_names=())
    start = time.perf_counter()
    images = run.images("train")
    batches = pipeline.batches(
        images,
        run.method.draw,
        batch_size=64,
        epochs=READ // len(images) + 4,
        seed=0,
        train=True,
        random_crop=True,
        threads=len(os.sched_getaffinity(0)),
        start_step=len(images) * 5 // 2 // 64,
    )
    next(batches)
    first = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(READ // 64):
        next(batches)
    return {
        "seconds to the first batch": first,
        "images/s": READ / (time.perf_counter() - start),
        "peak memory, MiB": contenders.peak_memory(),
    }


def by_records(folder: str, sizes: list[int], rounds: int) -> list[dict[str, float]]:
    """Measures each size; returns a row of medians over the rounds for each."""
    rows = []
    for size, data_dir in zip(sizes, prepare(folder, sizes), strict=True):
        command = [sys.executable, "-m", "benchmarks.scaling", "--read", data_dir]
        results = [
            json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
            for _ in range(rounds)
        ]
        medians = {key: float(np.median([row[key] for row in results])) for key in results[0]}
        rows.append({"records": size, **medians})
    return rows


def by_devices(counts: list[int], rounds: int, options: dict[str, Any]) -> list[dict[str, float]]:
    """Measures each number of devices; returns a row of medians over the rounds for each."""
    running = [
        contenders.Process(
            "benchmarks.train_step", "on_devices", sys.executable, {**options, "devices": count}
        )
        for count in counts
    ]
    rates: list[list[float]] = [[] for _ in counts]
    for _ in range(rounds + 1):  # the first round is a warm-up
        for process, values in zip(running, rates, strict=True):
            values.append(process.work())
    for process in running:
        process.end()
    return [
        {"devices": count, "images/s": float(np.median(values[1:]))}
        for count, values in zip(counts, rates, strict=True)
    ]


def table(rows: list[dict[str, float]]) -> str:
    """Formats rows as a Markdown table."""
    heads = list(rows[0])
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    lines += ["| " + " | ".join(f"{row[head]:,.4g}" for head in heads) + " |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Measures and prints both tables."""
    parser = contenders.arguments(__doc__.partition("\n")[0], "batch", "width", rounds=3)
    parser.add_argument("--records", default="10000,100000,1000000", help="comma-separated")
    parser.add_argument("--devices", default="1,2", help="comma-separated")
    parser.set_defaults(width=0.25)
    parser.add_argument(
        "--read",
        default="",
        help="only measure reading from this data_dir, and print the result as JSON",
    )
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read(options.read)))
        return
    records = by_records(
        options.folder, [int(n) for n in options.records.split(",")], options.rounds
    )
    step = {"batch": options.batch, "dtype": "float32", "steps": 10, "width": options.width}
    devices = by_devices([int(n) for n in options.devices.split(",")], options.rounds, step)
    print(f"\n{contenders.machine()}\n\n{table(records)}\n\n{table(devices)}")
    if options.json:
        results = {"machine": contenders.machine(), "records": records, "devices": devices}
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
