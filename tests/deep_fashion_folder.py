"""Writes a folder in DeepFashion's exact format, with made-up photographs."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from ssljax.prepare import prepare

CATEGORIES = [("Blouse", 1), ("Jeans", 2), ("Dress", 3), ("Cape", 3), ("Tee", 1), ("Sundress", 3)]
USED = (1, 2, 3, 5)  # Cape has no image, and neither has the last: so there are 5 classes


def write_folder(
    root: pathlib.Path,
    images: int = 60,
    *,
    annotations: str = "Anno",
    photographs: str = "Img/img",
    longest: int = 48,
    photograph: Callable[[int], bytes] | None = None,
) -> list[str]:
    """Writes the lists and the photographs; returns the image names in listing order.

    Args:
      photograph: makes the JPEG of an index; None makes up small ones.
    """
    rng = np.random.default_rng(0)
    names, categories, boxes, partitions = [], [], [], []
    for index in range(images):
        category = USED[index * len(USED) // images]
        folder = f"Some_{CATEGORIES[category - 1][0]}"
        name = f"img/{folder}/img_{index + 1:08}.jpg"
        path = root / photographs / folder / f"img_{index + 1:08}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = longest, longest * 2 // 3
        if index % 3 == 0:
            height, width = width, height
        if photograph:
            path.write_bytes(photograph(index))
        else:
            _photograph(rng, category, width, height).save(path, quality=80)
        names.append(name)
        categories.append(category)
        boxes.append((1, 2, width - 1, height - 1))
        partitions.append(("train", "train", "train", "val", "test")[index % 5])
    lists = root / annotations
    write_list(lists / "list_category_cloth.txt", "category_name  category_type", CATEGORIES)
    write_list(
        lists / "list_category_img.txt",
        "image_name  category_label",
        list(zip(names, categories, strict=True)),
    )
    write_list(
        lists / "list_bbox.txt",
        "image_name  x_1  y_1  x_2  y_2",
        [(name, *box) for name, box in zip(names, boxes, strict=True)],
    )
    write_list(
        root / "Eval" / "list_eval_partition.txt",
        "image_name  evaluation_status",
        list(zip(names, partitions, strict=True)),
    )
    return names


def prepare_deep_fashion(
    config: str, source: str | pathlib.Path, data_dir: str, skip_bad: bool = False
) -> Any:
    """Prepares a folder as `deep_fashion/CONFIG`."""
    return prepare(
        str(source),
        data_dir=data_dir,
        format=f"deep_fashion/{config}",
        skip_bad_images=skip_bad,
    )


def write_list(path: pathlib.Path, header: str, rows: list[tuple]) -> None:
    """The count, the header, then the rows with their first column padded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [str(len(rows)), header]
    lines += [f"{row[0]:<70} {'  '.join(str(value) for value in row[1:])}" for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _photograph(rng: np.random.Generator, category: int, width: int, height: int) -> Image.Image:
    """A smooth gradient with a shape whose colour and place depend on the category."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 / width, y * 255 / height, 0 * x + rng.integers(256)], axis=-1)
    left = width * category // 8
    pixels[height // 4 : height // 2, left : left + width // 4] = (40 * category, 255, 0)
    return Image.fromarray(pixels.astype(np.uint8))
