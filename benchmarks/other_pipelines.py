"""Input pipelines of other libraries, for `benchmarks.input_pipeline`."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import random
from typing import Any

import numpy as np

from benchmarks import contenders

SIZE, TILES = 225, 9


def photographs(folder: str, images: int) -> list[str]:
    """The files of the generated photographs."""
    root = pathlib.Path(folder, f"photographs-{images}", "Img")
    return sorted(map(str, root.rglob("*.jpg")))


def tf_data(**options: Any) -> contenders.Work:
    """tf.data with `decode_jpeg`, followed by a crop."""
    return _tf_data(crop_first=False, **options)


def tf_data_crop(**options: Any) -> contenders.Work:
    """tf.data with `decode_and_crop_jpeg`, which decodes only the crop."""
    return _tf_data(crop_first=True, **options)


def _tf_data(
    crop_first: bool, folder: str, images: int, threads: int, batch: int
) -> contenders.Work:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    path = f"{folder}/photographs-{images}.tfrecord"
    if not os.path.exists(path):
        with tf.io.TFRecordWriter(path) as writer:
            for file in photographs(folder, images):
                writer.write(pathlib.Path(file).read_bytes())
    jpeg = {"channels": 3, "dct_method": "INTEGER_FAST", "fancy_upscaling": False}

    def read(data: Any) -> tuple[Any, Any]:
        image: Any = None if crop_first else tf.io.decode_jpeg(data, **jpeg)
        shape = tf.image.extract_jpeg_shape(data) if crop_first else tf.shape(image)
        side = tf.minimum(shape[0], shape[1])
        slack = shape[:2] - side
        offset = tf.random.uniform([], 0, tf.reduce_max(slack) + 1, tf.int32)
        top, left = tf.minimum(offset, slack[0]), tf.minimum(offset, slack[1])
        if crop_first:
            image = tf.image.decode_and_crop_jpeg(data, tf.stack([top, left, side, side]), **jpeg)
        else:
            image = image[top : top + side, left : left + side]
        image = tf.image.resize(image, (SIZE, SIZE))
        return tf.cast(image, tf.uint8), tf.random.shuffle(tf.range(TILES))

    dataset = tf.data.TFRecordDataset(path).shuffle(1024)
    dataset = dataset.map(read, num_parallel_calls=threads, deterministic=True)
    dataset = dataset.batch(batch).prefetch(2)
    settings = tf.data.Options()
    settings.threading.private_threadpool_size = threads
    dataset = dataset.with_options(settings)
    return lambda: sum(len(step.numpy()) for step, _ in dataset)


def dataloader(folder: str, images: int, threads: int, batch: int) -> contenders.Work:
    """PyTorch's DataLoader with Pillow in worker processes."""
    import torch
    from PIL import Image

    class Photographs(torch.utils.data.Dataset):
        def __init__(self) -> None:
            self.files = photographs(folder, images)

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            image = Image.open(self.files[index]).convert("RGB")
            side = min(image.size)
            left = random.randint(0, image.width - side)
            top = random.randint(0, image.height - side)
            image = image.crop((left, top, left + side, top + side))
            image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            return torch.from_numpy(np.array(image)), torch.randperm(TILES)

    loader = torch.utils.data.DataLoader(
        Photographs(), batch, shuffle=True, num_workers=threads, persistent_workers=True
    )
    return lambda: sum(len(step) for step, _ in loader)


def ffcv(**options: Any) -> contenders.Work:
    """FFCV with JPEG records. It crops at the centre and draws no permutation."""
    return _ffcv("jpg", **options)


def ffcv_raw(**options: Any) -> contenders.Work:
    """FFCV with decoded records, for comparison with `kept`."""
    return _ffcv("raw", **options)


def _ffcv(mode: str, folder: str, images: int, threads: int, batch: int) -> contenders.Work:
    from ffcv.fields import RGBImageField
    from ffcv.fields.rgb_image import CenterCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.writer import DatasetWriter
    from PIL import Image

    path = f"{folder}/photographs-{images}-{mode}.beton"
    if not os.path.exists(path):
        files = photographs(folder, images)

        class Photographs:
            def __len__(self) -> int:
                return len(files)

            def __getitem__(self, index: int) -> tuple[Image.Image]:
                return (Image.open(files[index]).convert("RGB"),)

        field = RGBImageField(write_mode=mode, jpeg_quality=70)
        DatasetWriter(path, {"image": field}, num_workers=threads).from_indexed_dataset(
            Photographs()
        )
    loader = Loader(
        path,
        batch_size=batch,
        num_workers=threads,
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=False,
        pipelines={"image": [CenterCropRGBImageDecoder((SIZE, SIZE), ratio=1)]},
    )
    return lambda: sum(len(step) for (step,) in loader)


def dali(folder: str, images: int, threads: int, batch: int) -> contenders.Work:
    """NVIDIA DALI on the CPU."""
    from nvidia.dali import fn, math, pipeline_def, types

    @pipeline_def(batch_size=batch, num_threads=threads, device_id=None)
    def pipeline() -> Any:
        data, _ = fn.readers.file(
            files=photographs(folder, images), random_shuffle=True, name="reader", initial_fill=1024
        )
        shape = fn.peek_image_shape(data, dtype=types.INT32)
        height, width = shape[0], shape[1]
        side = math.min(height, width)
        place = fn.random.uniform(range=[0, 1])
        start = fn.stack(place * (height - side), place * (width - side))
        image = fn.decoders.image_slice(
            data,
            fn.cast(start, dtype=types.INT32),
            fn.stack(side, side),
            axis_names="HW",
            jpeg_fancy_upsampling=False,
            use_fast_idct=True,
        )
        return fn.resize(
            image, resize_x=SIZE, resize_y=SIZE, antialias=False, interp_type=types.INTERP_LINEAR
        )

    built = pipeline()
    built.build()

    def work() -> int:
        steps = -(-images // batch)
        return sum(len(built.run()[0]) for _ in range(steps))

    return work


def bare(folder: str, images: int, threads: int, batch: int) -> contenders.Work:
    """A plain loop that only decodes, crops and resizes, in one process per core."""
    del batch
    pool = multiprocessing.get_context("spawn").Pool(
        threads, _load, ([photographs(folder, images)[part::threads] for part in range(threads)],)
    )
    return lambda: sum(pool.map(_loop, range(threads), chunksize=1))


_loaded: list[list[bytes]] = []


def _load(parts: list[list[str]]) -> None:
    import cv2

    cv2.setNumThreads(1)
    _loaded.extend([[pathlib.Path(file).read_bytes() for file in part] for part in parts])


def _loop(part: int) -> int:
    for data in _loaded[part]:
        decode_crop_resize(data)
    return len(_loaded[part])


def decode_crop_resize(data: bytes) -> np.ndarray:
    """Decodes an image and returns a random square of it as uint8[SIZE, SIZE, 3]."""
    import cv2
    import simplejpeg

    image = simplejpeg.decode_jpeg(data, fastdct=True, fastupsample=True)
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = random.randint(0, height - side), random.randint(0, width - side)
    square = image[top : top + side, left : left + side]
    return cv2.resize(square, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
