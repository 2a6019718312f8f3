"""What a reader does: it fills the arrays of a batch with images, labels and random draws.

Every random draw depends only on (seed, epoch, record), or on (seed, record) when evaluating. It
does not matter which reader does the work, or when.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from ssljax.data.image_source import ImageSource
from ssljax.data.images import ImageError
from ssljax.data.order import Step, record_rng

HostBatch = dict[str, np.ndarray]
Layout = dict[str, tuple[tuple[int, ...], np.dtype]]
Draw = Callable[[np.random.Generator], dict[str, np.ndarray]]


def batch_layout(size: int, side: int, draw: Draw, whole: bool = False) -> Layout:
    """Shapes and dtypes of the arrays of a batch.

    Args:
      size: the number of examples.
      side: of the square images, in pixels.
      draw: what a method draws for a record.
      whole: the images are whole ones, with their heights and widths.
    """
    draws = draw(np.random.default_rng(0))
    return {
        "image": ((size, side, side, 3), np.dtype(np.uint8)),
        "label": ((size,), np.dtype(np.int32)),
        "record": ((size,), np.dtype(np.int32)),
        "mask": ((size,), np.dtype(bool)),
        **({name: ((size,), np.dtype(np.int32)) for name in ("height", "width")} if whole else {}),
        **{name: ((size, *value.shape), value.dtype) for name, value in draws.items()},
    }


@dataclasses.dataclass(frozen=True)
class ReadBatch:
    """Turns a step of the order into a batch; runs on reader threads and in reader processes.

    A reader works on a whole batch. Every image is then resized directly into its place, whereas
    single examples would have to be copied together.

    Attributes:
      images: of the split.
      draw: what the method draws for a record, from the record's random stream.
      seed: of all draws.
      train: a new draw for every epoch; otherwise one for all epochs.
      random_crop: cut the square at a random place instead of the centre, if it is cut at all.
    """

    images: ImageSource
    draw: Draw
    seed: int
    train: bool
    random_crop: bool

    def __call__(self, step: Step) -> HostBatch:
        """A batch in new arrays."""
        batch = {name: np.empty(*array) for name, array in self.layout(len(step.records)).items()}
        batch["record"][:], batch["mask"][:] = step.records, step.mask
        self.fill(step.epoch, batch)
        return batch

    def layout(self, size: int) -> Layout:
        """Shapes and dtypes of the arrays of a batch of `size` examples."""
        return batch_layout(size, self.images.size, self.draw, self.images.whole)

    def fill(self, epoch: int, batch: HostBatch) -> None:
        """Reads, decodes and resizes the records of `batch["record"]`, and draws for them.

        Raises:
          InputError: a record cannot be read or decoded.
        """
        image, label = batch["image"], batch["label"]
        records = batch["record"].tolist()
        encoded = self.images.read(records)
        for row, record in enumerate(records):
            rng = record_rng(self.seed, record, epoch if self.train else None)
            data, label[row] = encoded[row]
            try:
                if self.images.whole:
                    size = self.images.canvas(data, image[row])
                    batch["height"][row], batch["width"][row] = size
                else:
                    self.images.square(data, rng if self.random_crop else None, image[row])
            except ImageError as error:
                raise self.images.not_decoded(record, error) from error
            for name, value in self.draw(rng).items():
                batch[name][row] = value
