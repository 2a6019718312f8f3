"""Compares input pipelines that turn JPEG photographs into batches of square images.

    python -m benchmarks.input_pipeline [--images=8192] [--threads=2]

Every contender reads the same photographs (`benchmarks/photographs.py`) in random order. It decodes
a photograph, cuts a random square as large as the shorter side, resizes it to 225 px and draws a
permutation of nine tiles. `exact`, `pillow`, the same two with threads, and `dataloader` decode and
resize as Pillow does. The others use libjpeg-turbo's fast DCT and a bilinear resize without
antialiasing.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from benchmarks import contenders
from benchmarks.other_pipelines import (  # noqa: F401  contenders of this module
    bare,
    dali,
    dataloader,
    ffcv,
    ffcv_raw,
    tf_data,
    tf_data_crop,
)

if TYPE_CHECKING:
    from ssljax.data.image_source import ImageSource
    from ssljax.data.read_batch import Draw, HostBatch
    from ssljax.runs.run import Run

SPLIT = "train+validation+test"
CONTENDERS = [
    "fast",
    "exact",
    "fast_threads",
    "exact_threads",
    "pillow",
    "pillow_threads",
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
    """`data.decoding=fast` with reader processes."""
    return ssljax("fast", workers=options["threads"], **options)


def exact(**options: Any) -> contenders.Work:
    """`data.decoding=exact` with reader processes."""
    return ssljax("exact", workers=options["threads"], **options)


def fast_threads(**options: Any) -> contenders.Work:
    """`data.decoding=fast` with reader threads."""
    return ssljax("fast", **options)


def exact_threads(**options: Any) -> contenders.Work:
    """`data.decoding=exact` with reader threads, the default."""
    return ssljax("exact", **options)


def pillow(**options: Any) -> contenders.Work:
    """What `exact` computes, by Pillow alone, with reader processes."""
    return _pillow(workers=options["threads"], **options)


def pillow_threads(**options: Any) -> contenders.Work:
    """What `exact_threads` computes, by Pillow alone, with reader threads."""
    return _pillow(**options)


def _pillow(
    folder: str, images: int, threads: int, batch: int, workers: int = 0
) -> contenders.Work:
    from benchmarks.pillow_images import PillowImages

    run = jigsaw_run(folder, images)
    source = PillowImages(run.records(SPLIT), run.image_options()["size"])
    return epochs(source, run.method.draw, threads=threads, batch=batch, workers=workers)


def kept(**options: Any) -> contenders.Work:
    """`data.decoding=fast` and `data.cache=ram`, after the first epoch."""
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
    """The input pipeline of training. Each turn is an epoch."""
    from ssljax.data.cache import open_images

    run = jigsaw_run(folder, images)
    records = run.records(SPLIT)
    [source] = open_images(cache, records, **(run.image_options() | {"decoding": decoding}))
    return epochs(source, run.method.draw, threads=threads, batch=batch, workers=workers)


def epochs(
    images: ImageSource, draw: Draw, *, threads: int, batch: int, workers: int = 0
) -> contenders.Work:
    """Reads images as training does. Each turn is an epoch."""
    epoch = 0

    def work() -> int:
        nonlocal epoch
        batches = read_epoch(images, draw, epoch, threads=threads, batch=batch, workers=workers)
        epoch += 1
        return sum(int(step["mask"].sum()) for step in batches)

    return work


def read_epoch(
    images: ImageSource, draw: Draw, epoch: int, *, threads: int, batch: int, workers: int = 0
) -> Iterator[HostBatch]:
    """The batches of an epoch, from 0, as training reads them."""
    from ssljax.data import pipeline

    return pipeline.batches(
        images,
        draw,
        batch_size=batch,
        epochs=epoch + 1,
        seed=0,
        train=True,
        random_crop=True,
        threads=threads,
        workers=workers,
        start_step=epoch * -(-len(images) // batch),
    )


def jigsaw_run(folder: str, images: int) -> Run:
    """A run of 3×3 puzzles on the prepared photographs."""
    from ssljax.runs.run import make_run
    from ssljax.settings import config_files

    config = config_files.load("configs/jigsaw.py:3x3")
    config.data.dataset, config.data.data_dir = "deep_fashion/official", prepared(folder, images)
    return make_run(config, class_names=())


def prepared(folder: str, images: int) -> str:
    """Prepares the photographs as `deep_fashion/official`.

    Args:
      folder: the folder of the benchmarks' data.
      images: the number of photographs.

    Returns:
      The data_dir.
    """
    from ssljax.prepare import prepare

    data_dir = f"{folder}/tfds-{images}"
    prepare(f"{folder}/photographs-{images}", data_dir=data_dir, format="deep_fashion/official")
    return data_dir


def main() -> None:
    """Generates the photographs and runs the comparison."""
    flags = ("images", "threads", "batch")
    options = contenders.arguments(__doc__.partition("\n")[0], *flags).parse_args()
    from benchmarks.photographs import deep_fashion

    deep_fashion(pathlib.Path(options.folder), options.images)
    contenders.compare("benchmarks.input_pipeline", CONTENDERS, options, "fast", "folder", *flags)


if __name__ == "__main__":
    main()
