"""What a reader does: fills the arrays of a batch with pictures, labels and the task's draws.

Every random draw hangs on (seed, epoch, record) alone, or on (seed, record) when evaluating; so
who reads, and when, changes nothing.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ssljax.data.images import ImageError
from ssljax.data.order import PADDING, record_rng
from ssljax.data.pictures import Pictures, not_decoded
from ssljax.tasks.task import Task

HostBatch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ReadBatch:
    """Turns a step's epoch and records into a batch; runs on reader threads and processes.

    A reader works on a whole batch, for then every picture is resized into its place, where single
    examples would have to be copied together.
    """

    pictures: Pictures
    task: Task
    seed: int
    train: bool
    random_crop: bool

    def __call__(self, step: tuple[int, np.ndarray]) -> HostBatch:
        """A batch in new arrays."""
        epoch, records = step
        batch = {name: np.empty(*array) for name, array in self.layout(len(records)).items()}
        batch["record"][:] = records
        self.fill(epoch, batch)
        return batch

    def layout(self, size: int) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Shapes and dtypes of the arrays of a batch of so many examples."""
        side = self.pictures.size
        draws = self.task.draw(0, np.random.default_rng(0), self.train)
        return {
            "image": ((size, side, side, 3), np.dtype(np.uint8)),
            "label": ((size,), np.dtype(np.int32)),
            "record": ((size,), np.dtype(np.int32)),
            "mask": ((size,), np.dtype(bool)),
            **{name: ((size, *draw.shape), draw.dtype) for name, draw in draws.items()},
        }

    def fill(self, epoch: int, batch: HostBatch) -> None:
        """Reads, decodes, crops, resizes and draws what `record` names into the other arrays.

        Raises:
          InputError: a record cannot be read or decoded.
        """
        image, label, record = batch["image"], batch["label"], batch["record"]
        np.not_equal(record, PADDING, out=batch["mask"])
        given = int(batch["mask"].sum())  # padding comes last
        image[given:] = 0
        label[:] = 0
        pictures = self.pictures.read(record[:given].tolist())
        for row, number in enumerate(record.tolist()):
            rng = record_rng(self.seed, max(number, 0), epoch if self.train else None)
            if row < given:
                picture, label[row] = pictures[row]
                try:
                    self.pictures.square(picture, rng if self.random_crop else None, image[row])
                except ImageError as error:
                    raise not_decoded(self.pictures.records, number, error) from error
            for name, draw in self.task.draw(int(label[row]), rng, self.train).items():
                batch[name][row] = draw
