"""From JPEG photographs to batches of squares with a permutation each, by several pipelines.

    python -m benchmarks.input_pipeline [--images=8192] [--threads=2]

Every contender reads the same photographs (`benchmarks/photographs.py`) in random order, decodes
them, cuts a random square of the shorter side, resizes it to 225 px and draws a permutation of nine
tiles. `exact`, `exact_threads` and `dataloader` do what Pillow does; the others use libjpeg-turbo's
fast DCT and a bilinear resize without antialiasing.
"""

from __future__ import annotations

import pathlib
from typing import Any

from benchmarks import contenders
from benchmarks.other_pipelines import (  # noqa: F401  contenders, too
    SIZE,
    bare,
    dali,
    dataloader,
    ffcv,
    ffcv_raw,
    tf_data,
    tf_data_crop,
)

CONTENDERS = [
    "fast",
    "exact",
    "fast_threads",
    "exact_threads",
    "kept",
    "tf_data",
    "tf_data_crop",
    "dataloader",
    "ffcv",
    "ffcv_raw",
    "dali",
    "bare",
]


def fast(**options: Any) -> contenders.Work:
    """`data.decoding=fast`, by reader processes."""
    return ssljax("fast", workers=options["threads"], **options)


def exact(**options: Any) -> contenders.Work:
    """`data.decoding=exact`, by reader processes."""
    return ssljax("exact", workers=options["threads"], **options)


def fast_threads(**options: Any) -> contenders.Work:
    """`data.decoding=fast`, by reader threads."""
    return ssljax("fast", **options)


def exact_threads(**options: Any) -> contenders.Work:
    """As it is by default."""
    return ssljax("exact", **options)


def kept(**options: Any) -> contenders.Work:
    """`data.decoding=fast` and `data.cache=ram`, in later epochs."""
    return ssljax("fast", "ram", **options)


def ssljax(
    decoding: str,
    cache: str = "",
    *,
    folder: str,
    images: int,
    threads: int,
    batch: int,
    workers: int = 0,
) -> contenders.Work:
    """The pipeline of `ssljax.train`; every turn is an epoch."""
    from ssljax.data import pipeline
    from ssljax.data.pictures import open_pictures
    from ssljax.data.records import open_records
    from ssljax.tasks import make_task

    data_dir = prepared(folder, images)
    records = open_records("deep_fashion/official", "train+validation+test", data_dir)
    task = make_task({"name": "jigsaw", "grid": 3, "tile": 75}, data_image_size=SIZE)
    [pictures] = open_pictures(cache, records, size=SIZE, decoding=decoding)
    epoch = 0

    def work() -> int:
        nonlocal epoch
        batches = pipeline.batches(
            pictures,
            task,
            batch_size=batch,
            epochs=epoch + 1,
            seed=0,
            train=True,
            random_crop=True,
            threads=threads,
            workers=workers,
            start_step=epoch * -(-len(records) // batch),
        )
        epoch += 1
        return sum(int(step["mask"].sum()) for step in batches)

    return work


def prepared(folder: str, images: int) -> str:
    """Prepares the photographs as `deep_fashion/official`; returns the data_dir."""
    from ssljax.data.prepare import prepare_deep_fashion

    data_dir = f"{folder}/tfds-{images}"
    prepare_deep_fashion("official", f"{folder}/photographs-{images}", data_dir)
    return data_dir


def main() -> None:
    """Generates the photographs and compares."""
    flags = ("images", "threads", "batch")
    options = contenders.arguments(__doc__.partition("\n")[0], *flags).parse_args()
    from benchmarks.photographs import deep_fashion

    deep_fashion(pathlib.Path(options.folder), options.images)
    contenders.compare("benchmarks.input_pipeline", CONTENDERS, options, "fast", "folder", *flags)


if __name__ == "__main__":
    main()
