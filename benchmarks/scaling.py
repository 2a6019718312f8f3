"""What a larger data set costs, and what more devices bring.

    python -m benchmarks.scaling [--records=10000,100000,1000000] [--devices=1,2]

Records are small pictures, so that overheads show. For every size a new process opens the data
set, starts to read in the middle of the third epoch, as a run that goes on does, and reads 20,000
records in random order. For every number of devices (of a CPU's cores: fake devices) the step of
`benchmarks.train_step` is timed.
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

NAME = "small_pictures"
READ = 20_000


def prepare(folder: str, sizes: list[int]) -> list[str]:
    """Writes a data set of small JPEGs for each size, unless it is there: their data_dirs."""
    import tensorflow_datasets as tfds
    from PIL import Image

    from benchmarks.photographs import photograph

    files = []
    for index in range(64):
        small = io.BytesIO()
        Image.open(io.BytesIO(photograph(index))).resize((64, 64)).save(small, "JPEG")
        files.append(small.getvalue())

    class SmallPictures(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        records = 0
        pkg_dir_path = pathlib.Path(__file__).parent

        def _info(self) -> Any:
            image = tfds.features.Image(shape=(64, 64, 3), encoding_format="jpeg")
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
        SmallPictures.records = records
        data_dirs.append(f"{folder}/small-{records}")
        builder = SmallPictures(data_dir=data_dirs[-1], file_format="array_record")
        if not builder.is_prepared():
            builder.download_and_prepare()
    return data_dirs


def read(data_dir: str) -> dict[str, float]:
    """Opens, starts in the middle, reads; runs in a process of its own."""
    from ssljax.data import pipeline
    from ssljax.data.pictures import open_pictures
    from ssljax.data.records import open_records
    from ssljax.tasks import make_task

    task = make_task({"name": "jigsaw", "grid": 2, "tile": 32}, data_image_size=64)
    start = time.perf_counter()
    [pictures] = open_pictures("", open_records(NAME, "train", data_dir), size=64, decoding="fast")
    batches = pipeline.batches(
        pictures, task, batch_size=64, epochs=9, seed=0, train=True, random_crop=True,
        threads=len(os.sched_getaffinity(0)), start_step=len(pictures) * 5 // 2 // 64,
    )  # fmt: skip
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
    """A row for each size: medians over the rounds."""
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
    """A row for each number of devices: medians over rounds in turn."""
    running = []
    for count in counts:
        os.environ["JAX_NUM_CPU_DEVICES"] = str(count)
        running.append(
            contenders.Process("benchmarks.train_step", "one_device", sys.executable, options)
        )
    rates: list[list[float]] = [[] for _ in counts]
    for _ in range(rounds + 1):  # the first warms up
        for process, values in zip(running, rates, strict=True):
            values.append(process.work())
    for process in running:
        process.end()
    return [
        {"devices": count, "images/s": float(np.median(values[1:]))}
        for count, values in zip(counts, rates, strict=True)
    ]


def table(rows: list[dict[str, float]]) -> str:
    """Markdown."""
    heads = list(rows[0])
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    lines += ["| " + " | ".join(f"{row[head]:,.4g}" for head in heads) + " |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Measures and prints both tables."""
    parser = contenders.arguments(__doc__.partition("\n")[0], "batch", "width", rounds=3)
    parser.add_argument("--records", default="10000,100000,1000000")
    parser.add_argument("--devices", default="1,2")
    parser.set_defaults(width=0.25)
    parser.add_argument("--read", default="", help="the data_dir that this process reads")
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
