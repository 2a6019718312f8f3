"""Writes the same images as a source in each format, in each spelling."""

from __future__ import annotations

import csv
import io
import json
import pathlib
import tarfile
from collections.abc import Callable

import numpy as np
from PIL import Image

CLASSES = ("cats", "dogs", "Ästhetik 猫")
ENDINGS = ("jpg", "png", "gif", "bmp", "webp", "JPG")
Images = dict[tuple[str, str, str], bytes]  # by split, class and name


def image(seed: int, ending: str = "png", side: int = 40) -> bytes:
    """An image file; every third is grey or has a palette."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(256, size=(side, side + seed % 5, 3)).astype(np.uint8)
    made = Image.fromarray(pixels)
    if ending != "webp" and seed % 3 == 0:
        made = made.convert("P" if ending in ("png", "gif") else "L")
    file = io.BytesIO()
    made.save(file, {"jpg": "JPEG"}.get(ending.lower(), ending))
    return file.getvalue()


def make_images(splits: tuple[str, ...] = ("train", "val", "test"), each: int = 8) -> Images:
    """Images of three classes in every split, in six formats."""
    images = {}
    for split in splits:
        for label in CLASSES:
            for index in range(each):
                ending = ENDINGS[len(images) % len(ENDINGS)]
                images[split, label, f"{index:03}.{ending}"] = image(len(images), ending)
    return images


def write_files(root: pathlib.Path, files: dict[str, bytes]) -> pathlib.Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def folders(root: pathlib.Path, images: Images) -> pathlib.Path:
    """SPLIT/CLASS/NAME, with files that are no images."""
    files = {f"{split}/{label}/{name}": data for (split, label, name), data in images.items()}
    return write_files(
        root, {**files, "README.txt": b"x", ".DS_Store": b"x", "__MACOSX/a.jpg": b""}
    )


def class_folders(root: pathlib.Path, images: Images) -> pathlib.Path:
    """CLASS/deeper/NAME, in a folder of its own, as archives unpack."""
    return write_files(
        root,
        {f"all/{label}/{split}-x/{name}": data for (split, label, name), data in images.items()},
    )


def loose(root: pathlib.Path, images: Images) -> pathlib.Path:
    """All images beside each other."""
    return write_files(
        root, {f"{split}-{label}-{name}": data for (split, label, name), data in images.items()}
    )


def table(delimiter: str, header: tuple[str, str, str]) -> Callable:
    """A table beside the images."""

    def write(root: pathlib.Path, images: Images) -> pathlib.Path:
        rows = []
        for (split, label, name), data in images.items():
            write_files(root, {f"pictures/{split}, {label}/{name}": data})
            rows.append((f"pictures/{split}, {label}/{name}", label, split))
        path = root / ("list.tsv" if delimiter == "\t" else "list.csv")
        with open(path, "w", newline="", encoding="utf-8-sig") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerows([header, *rows])
        return path

    return write


def parquet(paths: bool) -> Callable:
    """Hugging Face's files: an image as bytes, or as a path beside the file."""

    def write(root: pathlib.Path, images: Images) -> pathlib.Path:
        import pyarrow
        import pyarrow.parquet

        features = {
            "image": {"_type": "Image"},
            "label": {"names": list(CLASSES), "_type": "ClassLabel"},
        }
        (root / "data").mkdir(parents=True)
        for split in {split for split, _, _ in images}:
            rows = [(label, name, data) for (s, label, name), data in images.items() if s == split]
            if paths:
                write_files(root, {f"data/{split}/{a}/{b}": data for a, b, data in rows})
            column = [
                {"bytes": None, "path": f"data/{split}/{label}/{name}"}
                if paths
                else {"bytes": data, "path": name}
                for label, name, data in rows
            ]
            labels = [CLASSES.index(label) for label, _, _ in rows]
            made = pyarrow.table({"image": column, "label": labels})
            note = json.dumps({"info": {"features": features}})
            made = made.replace_schema_metadata({"huggingface": note})
            pyarrow.parquet.write_table(made, root / f"data/{split}-00000-of-00001.parquet")
        return root

    return write


def webdataset(ending: str, labels: str) -> Callable:
    """A tar file for each split, with labels as .cls or in .json."""

    def write(root: pathlib.Path, images: Images) -> pathlib.Path:
        root.mkdir(parents=True)
        for split in {split for split, _, _ in images}:
            mode = "w:gz" if ending != "tar" else "w"
            with tarfile.open(root / f"{split}-0000.{ending}", mode) as archive:
                for index, ((own, label, name), data) in enumerate(images.items()):
                    if own != split:
                        continue
                    note = label if labels == "cls" else json.dumps({"label": label, "width": 3})
                    image_ending = name.partition(".")[2]
                    for suffix, content in ((image_ending, data), (labels, note.encode())):
                        member = tarfile.TarInfo(f"{index:06}.{suffix}")
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
        return root

    return write


# By name: how it is written, the format, and whether it has splits and labels.
SOURCES: dict[str, tuple[Callable, str, bool, bool]] = {
    "split folders": (folders, "folder", True, True),
    "class folders": (class_folders, "folder", False, True),
    "loose": (loose, "folder", False, False),
    "csv": (table(",", ("file", "label", "split")), "csv", True, True),
    "tsv": (table("\t", ("Path", "Class", "Partition")), "csv", True, True),
    "semicolons": (table(";", ("image", "category", "set")), "csv", True, True),
    "parquet with bytes": (parquet(paths=False), "parquet", True, True),
    "parquet with paths": (parquet(paths=True), "parquet", True, True),
    "tar with cls": (webdataset("tar", "cls"), "webdataset", True, True),
    "tar with json": (webdataset("tar", "json"), "webdataset", True, True),
    "packed tar": (webdataset("tar.gz", "cls"), "webdataset", True, True),
}
