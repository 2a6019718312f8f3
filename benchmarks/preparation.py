"""Measures `prepare` on a folder of small photographs against a plain loop and FFCV's writer.

python -m benchmarks.preparation [--images=16384] [--python=ffcv=VENV/bin/python]

The plain loop copies the bytes of the files into one ArrayRecord file, in the order of their names;
it checks, divides and shuffles nothing. FFCV's writer runs with the interpreter given for it.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import statistics
import sys

from benchmarks import contenders
from benchmarks.photographs import photograph

CLASSES = 10


def write_photographs(folder: pathlib.Path, images: int) -> pathlib.Path:
    """Writes photographs in class folders, unless they exist."""
    source = folder / f"classes-{images}"
    if not (source / "done").exists():
        for index in range(images):
            path = source / f"class_{index % CLASSES}" / f"{index:07}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photograph(index))
        (source / "done").touch()
    return source


def plain_loop(source: str, target: str) -> None:
    """Copies the bytes of every file."""
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(target, "group_size:1")
    for path in sorted(pathlib.Path(source).glob("*/*.jpg")):
        writer.write(path.read_bytes())
    writer.close()


def ffcv_writer(source: str, target: str) -> None:
    """Writes FFCV's format with JPEGs of quality 90, which FFCV encodes anew."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter
    from PIL import Image

    files = sorted(pathlib.Path(source).glob("*/*.jpg"))

    class Photographs:
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.open(files[index]).convert("RGB"), int(files[index].parent.name[-1])

    fields = {"image": RGBImageField(write_mode="jpg"), "label": IntField()}
    writer = DatasetWriter(target, fields, num_workers=os.cpu_count() or 1)
    writer.from_indexed_dataset(Photographs())


def main() -> None:
    """Measures in turn, and prints a table."""
    if len(sys.argv) > 3 and sys.argv[1] in CONTENDERS:
        CONTENDERS[sys.argv[1]](*sys.argv[2:])
        return
    parser = contenders.arguments(__doc__.partition("\n")[0], "images", rounds=3)
    options = parser.parse_args()
    folder = pathlib.Path(options.folder)
    target = folder / "target"
    pythons = dict(item.split("=", 1) for item in options.python)
    rows: dict[str, list[tuple[float, float]]] = {}
    counts: dict[str, int] = {}
    for _ in range(options.rounds):
        for images in (options.images // 4, options.images):
            source = write_photographs(folder, images)
            commands = {
                "prepare": [
                    sys.executable, "ssljax.prepare", f"--source={source}", "--name=x",
                    f"--data_dir={target}",
                ],
            }  # fmt: skip
            for name in ("plain", "ffcv"):
                if python := pythons.get(name, "" if name == "ffcv" else sys.executable):
                    commands[NAMES[name]] = [
                        python, "benchmarks.preparation", name, str(source), str(target / "records")
                    ]  # fmt: skip
            for command, words in commands.items():
                name = f"{command}, {images:,} images"
                target.mkdir()
                rows.setdefault(name, []).append(contenders.run_command(*words))
                counts[name] = images
                shutil.rmtree(target)
    print(f"\n{contenders.machine()}\n")
    print("| what | seconds | images/s | peak memory, MiB |\n| --- | --- | --- | --- |")
    for name, measured in rows.items():
        seconds = statistics.median(row[0] for row in measured)
        memory = max(row[1] for row in measured)
        print(f"| {name} | {seconds:.1f} | {counts[name] / seconds:,.0f} | {memory:,.0f} |")


NAMES = {"plain": "plain loop", "ffcv": "FFCV's writer"}
CONTENDERS = {"plain": plain_loop, "ffcv": ffcv_writer}

if __name__ == "__main__":
    main()
