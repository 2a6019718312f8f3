"""The images of a split as squares of one size, decoded from its records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ssljax.data.decoder import Decoder
from ssljax.data.records import Records
from ssljax.settings.errors import InputError


class ImageSource(Decoder):
    """Decodes the images of a split; `ssljax.data.cache.CachedImages` keeps them in memory.

    Attributes:
      records: the split.
      whole: batches hold whole images (`canvas`) with their heights and widths, not squares that
        are cut out of them (`square`).
    """

    def __init__(self, records: Records, size: int, decoding: str = "exact", whole: bool = False):
        super().__init__(size, decoding)
        self.records, self.whole = records, whole

    def __reduce__(self) -> tuple[Any, ...]:  # for reader processes
        return type(self), (self.records, self.size, self.decoding, self.whole)

    def __len__(self) -> int:
        return len(self.records)

    def read(self, records: Sequence[int]) -> list[tuple[Any, int]]:
        """What `square` and `canvas` take of some records, and their labels or -1."""
        return self.records.read(records)

    def not_decoded(self, record: int, error: Exception) -> InputError:
        """The error for a record that cannot be decoded; it names the record and its file."""
        return InputError(f"{self.records.name}: {self.records.where(record)}: {error}")
