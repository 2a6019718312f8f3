"""An SQLite file with a row for each image of a source, so that memory does not grow with them."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_SCHEMA = """
create table images (
  name text, file blob, start integer, length integer, split text, label text, fault text,
  digest integer, bytes integer, width integer, height integer, features text)
"""  # the columns are the attributes of `Row`, in their order


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """What is known of an image after it was read.

    Attributes:
      name, split, label, fault: see `ssljax.data.sets.source.Item`.
      file: the file with the bytes that are written.
      start: of the bytes in the file.
      length: of the bytes; None is up to the end of the file.
      digest: int64, of the content; see `ssljax.data.digests`.
      bytes: of the image in the source.
      width: pixels in the source, upright.
      height: pixels in the source, upright.
      features: further features of the record.
    """

    name: str
    file: str
    start: int
    length: int | None
    split: str
    label: str | None
    fault: str | None
    digest: int
    bytes: int
    width: int
    height: int
    features: Mapping[str, Any]


_COLUMNS = [field.name for field in dataclasses.fields(Row)]


class Index:
    """The rows of a source.

    Attributes:
      database: of the table `images`, which is only read by others.
    """

    def __init__(self, path: pathlib.Path):
        """Makes a new file."""
        self.database = sqlite3.connect(path, isolation_level=None)
        # The file is thrown away after a crash, so nothing needs to reach the disk.
        self.database.execute("pragma journal_mode=off")
        self.database.execute("pragma synchronous=off")
        self.database.execute("pragma temp_store=file")
        self.database.execute(_SCHEMA)

    def add(self, rows: Iterable[Row]) -> None:
        """Appends rows."""
        self.database.execute("begin")
        self.database.executemany(
            f"insert into images values ({','.join('?' * 12)})", map(_values, rows)
        )
        self.database.execute("commit")

    def finish(self) -> None:
        """Call it after the last row, before looking for digests."""
        self.database.execute("create index by_digest on images (digest)")

    def count(self, where: str = "1", *values: Any) -> int:
        """The number of images that fulfil an SQL condition."""
        query = f"select count(*) from images where {where}"
        return self.database.execute(query, values).fetchone()[0]

    def count_bytes(self) -> int:
        """The bytes of the usable images in the source."""
        query = "select ifnull(sum(bytes), 0) from images where fault is null"
        return self.database.execute(query).fetchone()[0]

    def split(self, name: str) -> Iterator[Row]:
        """The usable rows of a split, ordered by digest: at random, and copies together."""
        for row in self.database.execute(
            "select * from images where fault is null and split = ? order by digest, name", [name]
        ):
            values = dict(zip(_COLUMNS, row, strict=True))
            values["file"] = os.fsdecode(values["file"])
            values["features"] = json.loads(values["features"])
            yield Row(**values)

    def splits(self) -> list[str]:
        """The names of the splits with usable images."""
        return [
            name
            for (name,) in self.database.execute(
                "select distinct split from images where fault is null order by split"
            )
        ]

    def close(self) -> None:
        """Closes the file."""
        self.database.close()


def _values(row: Row) -> tuple[Any, ...]:
    # Names of files may be any bytes, while text must be Unicode.
    name = row.name.encode(errors="replace").decode()
    return (
        name, os.fsencode(row.file), row.start, row.length, row.split, row.label, row.fault,
        row.digest, row.bytes, row.width, row.height, json.dumps(dict(row.features)),
    )  # fmt: skip
