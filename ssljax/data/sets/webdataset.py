"""WebDataset's tar files: consecutive members with one key are one example.

The files are read in place: nothing is unpacked, and the names of members are never used as paths.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
import tarfile
from collections.abc import Iterator, Sequence

from ssljax.data.sets import columns
from ssljax.data.sets.source import SUFFIXES as IMAGES
from ssljax.data.sets.source import Item, Source, outside, split_of_file
from ssljax.files import untrusted
from ssljax.settings.errors import InputError

SUFFIXES = (".tar", ".tar.gz", ".tgz")
_LARGEST = 2**20  # bytes of a label


def open_webdataset(root: pathlib.Path, files: Sequence[pathlib.Path]) -> Source:
    """Describes tar files.

    Args:
      root: their folder.
      files: in order.
    """

    def items() -> Iterator[Item]:
        for path in files:
            split = split_of_file(path.relative_to(root).as_posix())
            yield from _examples(path, split)

    count = f"{len(files):,} tar files" if len(files) > 1 else "a tar file"
    return Source(f"WebDataset, {count}", items)


def _examples(path: pathlib.Path, split: str) -> Iterator[Item]:
    packed = path.suffix != ".tar"
    try:
        untrusted.check_regular(path)
        # A packed file can only be read from its beginning to its end.
        with tarfile.open(path, "r|*" if packed else "r:") as archive:
            members = (member for member in _members(archive) if member.isreg() or member.islnk())
            for key, group in itertools.groupby(members, key=lambda member: _key(member.name)):
                yield from _example(path, archive, key, group, split, packed)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"--source: {path} cannot be read as tar: {error}") from error


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        yield member
        archive.members = []  # type: ignore[attr-defined]  # tarfile would keep all of them


def _example(
    path: pathlib.Path,
    archive: tarfile.TarFile,
    key: str,
    group: Iterator[tarfile.TarInfo],
    split: str,
    packed: bool,
) -> Iterator[Item]:
    """Yields the item of an example that has an image.

    Of several images beside a label, the one that is named `KEY.SUFFIX` is the example's, as others
    are named `KEY.depth.png`. Without a label, they are ordinary files whose names have dots.
    """
    images: list[Item] = []
    labelled, label = False, None
    for member in group:
        name = f"{path.name}/{member.name}"
        suffix = pathlib.PurePosixPath(member.name).suffix.lower()
        if suffix in IMAGES:
            fault = outside(member.name)
            if not member.isreg() or member.issparse():
                fault = "is a link or a sparse file"
            elif member.size > untrusted.MOST_IMAGE:
                fault = f"has more than {untrusted.MOST_IMAGE:,} bytes"
            data = _content(archive, member) if packed and not fault else None
            start, file = (0, None) if packed else (member.offset_data, path)
            images.append(Item(name, file, start, member.size, data, split, fault=fault))
        elif suffix in (".cls", ".json") and member.isreg():
            if member.size > _LARGEST:
                raise InputError(f"--source: {name} is too large for a label")
            labelled = True
            found = _label(_content(archive, member), suffix, name)
            label = found if suffix == ".cls" or label is None else label
    if labelled:
        own = [image for image in images if _stem(image.name) == f"{path.name}/{key}"]
        images = own or images
    for number, image in enumerate(images):
        if labelled and number:
            image = dataclasses.replace(image, fault=f"is another image of the example {key}")
        yield dataclasses.replace(image, label=label)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return b"" if file is None else file.read()


def _key(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _stem(name: str) -> str:
    return name.removesuffix(pathlib.PurePosixPath(name).suffix)


def _label(data: bytes, suffix: str, name: str) -> str | None:
    try:
        text = data.decode().strip()
        if suffix == ".cls":
            return text or None
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"--source: {name} is not {suffix[1:]}: {error}") from error
    if not isinstance(values, dict):
        return None
    found = next((values[key] for key in columns.NAMES["label"] if key in values), None)
    return None if found is None or isinstance(found, dict | list) else str(found)
