"""Images in a folder: classes as sub-folders, splits as sub-folders above them, or neither."""

from __future__ import annotations

import collections
import os
import pathlib
from collections.abc import Iterator

from ssljax.data.sets.source import SPLITS, SUFFIXES, Item, Source, split_name
from ssljax.settings.errors import InputError

_WITHOUT_LABELS = {"unlabeled", "unlabelled", "extra"}  # folders that may stand beside splits


def open_folder(root: pathlib.Path, labelled: bool = True) -> Source:
    """Finds out how the images of a folder are arranged.

    * `train/cats/1.jpg`: splits, if every folder at the top is named like one; then classes.
      Images beside these folders cannot be used.
    * `cats/1.jpg`, `cats/2019/1.jpg`: a class for each folder at the top.
    * `1.jpg`: no label. A single class is none.

    Args:
      root: the folder.
      labelled: False takes no folder for a class.

    Raises:
      InputError: there are no images, or several folders at the top are named like splits and
        others are not.
    """
    others: collections.Counter[str] = collections.Counter()
    tops: dict[str, collections.Counter[str]] = {}  # by folder at the top: images by the next one
    total = 0
    for path, _ in _walk(root, others):
        parts = path.split("/")
        total += 1
        top = parts[0] if len(parts) > 1 else ""
        tops.setdefault(top, collections.Counter())[parts[1] if len(parts) > 2 else ""] += 1
    if not total:
        seen = f"only {_counted(others)}" if others else "no files"
        raise InputError(f"--source: {root} has no images, but {seen}")
    splits = {top for top in tops if top.lower() in SPLITS}
    others_at_top = {top for top in tops if top and top.lower() not in {*SPLITS, *_WITHOUT_LABELS}}
    if len(splits) > 1 and others_at_top:
        raise InputError(
            f"--source: {root} has {', '.join(sorted(splits))}, which are named like splits, and "
            f"beside them {', '.join(sorted(others_at_top)[:5])}; move or rename one or the other"
        )
    if others_at_top:  # then the other one is a class, too
        splits = set()
    if len(tops) == 1 and not splits:
        (top, below), *_ = tops.items()
        if top and "" not in below:  # what an archive unpacks to: one folder around all others
            return open_folder(root / top, labelled)
    if splits:
        classes = {name for below in tops.values() for name in below if name}
    else:
        classes = {top for top in tops if top}
    labelled = labelled and len(classes) > 1

    def items() -> Iterator[Item]:
        for path, fault in _walk(root):
            folders = path.split("/")[:-1]
            if splits and not folders:
                fault = fault or "lies beside the folders of splits"
            split = split_name(folders.pop(0)) if splits and folders else ""
            label = folders[0] if labelled and folders else None
            yield Item(path, root / path, split=split, label=label, fault=fault)

    layout = "class folders" if labelled else "without labels"
    layout += " in split folders" if splits else ""
    ignored = f"; ignored: {_counted(others)}" if others else ""
    return Source(f"a folder of images, {layout}{ignored}", items, total=total)


def _walk(
    root: pathlib.Path, others: collections.Counter[str] | None = None, folder: str = ""
) -> Iterator[tuple[str, str | None]]:
    """Yields (path below root, fault) of every image file; counts the other files by suffix."""
    try:
        entries = os.scandir(root / folder)
    except OSError as error:
        raise InputError(f"--source: {root / folder} cannot be read: {error.strerror}") from error
    with entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            path = f"{folder}{entry.name}"
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.is_symlink():
                real, base = os.path.realpath(entry.path), os.path.realpath(root)
                if not real.startswith(base.rstrip("/") + "/"):
                    if suffix in SUFFIXES or os.path.isdir(real):
                        yield path, "is a link that leaves the source"
                    continue
                if os.path.isdir(real):
                    continue  # its images are found where they are
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, others, f"{path}/")
            elif suffix in SUFFIXES:
                yield path, None if entry.is_file() else "is no regular file"
            elif others is not None:
                others[suffix or "without suffix"] += 1


def _counted(others: collections.Counter[str]) -> str:
    named = [f"{count:,} {suffix}" for suffix, count in others.most_common(4)]
    return ", ".join(named) + (", …" if len(others) > 4 else "") + " files"
