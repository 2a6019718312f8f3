"""Files from others before there is a run: images, lists, tables, archives, prepared data sets."""

from __future__ import annotations

import functools
import pathlib
import random

import numpy as np
from PIL import Image

from tests import labelled_set, sources
from tests.deep_fashion_folder import write_folder
from tests.fuzz.command import apart
from tests.fuzz.mutate import mutate
from tests.fuzz.target import REPOSITORY, Target


class AnnotationLists(Target):
    """DeepFashion's four lists."""

    def prepare(self) -> None:
        """See `Target`."""
        write_folder(self.given, images=8)

    def files(self) -> list[pathlib.Path]:
        """The lists only; images are another target."""
        return sorted(self.given.rglob("*.txt"))

    def command(self, folder: pathlib.Path, damaged: pathlib.Path, rng: random.Random) -> list[str]:
        """Either format."""
        kind = rng.choice(("slides", "official"))
        return ["prepare", f"--source={folder}", f"--format=deep_fashion/{kind}", "--name=damaged",
                f"--data_dir={folder}/out"]  # fmt: skip


class Images(Target):
    """Images of every format and of several modes."""

    at_once = 8

    def prepare(self) -> None:
        """See `Target`."""
        rng = np.random.default_rng(0)
        image = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((64, 48))
        for kind, options in (
            ("JPEG", {"quality": 80}), ("PNG", {}), ("GIF", {}), ("BMP", {}), ("WEBP", {}),
        ):  # fmt: skip
            image.save(self.given / f"rgb.{kind.lower()}", kind, **options)
        image.save(self.given / "progressive.jpeg", progressive=True)
        image.convert("CMYK").save(self.given / "cmyk.jpeg")
        for mode in ("L", "P", "RGBA", "1"):
            image.convert(mode).save(self.given / f"{mode}.png")
        Image.fromarray(rng.integers(0, 2**16, (48, 64), np.uint16)).save(self.given / "16bit.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(self.given / "turned.jpeg", exif=exif)
        for sampling in (0, 1):
            image.save(self.given / f"{sampling}.jpeg", subsampling=sampling,
                       restart_marker_blocks=5)  # fmt: skip
        write_run(self, classes=True)

    def command(self, folder: pathlib.Path, damaged: pathlib.Path, rng: random.Random) -> list[str]:
        """Mostly `prepare`, since a network takes seconds."""
        run = f"--workdir={self.beside}/run"
        if (which := rng.random()) < 0.1:
            return ["predict", run, str(folder)]
        if which < 0.2:
            return ["features", run, f"--images={folder}", f"--out={self.world}/new.npz",
                    "--skip_bad_images"]  # fmt: skip
        options = ["--skip_bad_images"] * (rng.random() < 0.9) + ["--max_side=32"] * (which < 0.4)
        return ["prepare", f"--source={folder}", "--name=damaged", f"--data_dir={folder}/out",
                "--keep_duplicates", *options]  # fmt: skip


class Sources(Target):
    """What `prepare` reads beside images: tables, Parquet and tar files."""

    def prepare(self) -> None:
        """See `Target`."""
        made = sources.make_images(("train", "test"), each=1)
        for name in ("csv", "tsv", "parquet with bytes", "tar with json", "packed tar"):
            folder = self.given / name.replace(" ", "_")
            apart(functools.partial(sources.SOURCES[name][0], folder, made))

    def files(self) -> list[pathlib.Path]:
        """Not the images beside the tables."""
        endings = (".csv", ".tsv", ".parquet", ".tar", ".gz")
        return [path for path in super().files() if path.suffix in endings]

    def command(self, folder: pathlib.Path, damaged: pathlib.Path, rng: random.Random) -> list[str]:
        """The file, or the folder that it is in."""
        place = damaged.parent.parent if damaged.suffix == ".parquet" else damaged.parent
        source = damaged if damaged.suffix in (".csv", ".tsv") or rng.random() < 0.3 else place
        return ["prepare", f"--source={source}", "--name=damaged", f"--data_dir={folder}/out",
                "--keep_duplicates", *["--skip_bad_images"] * (rng.random() < 0.7)]  # fmt: skip


class PreparedSets(Target):
    """The description, the records and the kept labels of a prepared data set."""

    def prepare(self) -> None:
        """See `Target`."""
        labels, names = [0, 1, 2, 3] * 4, ["x"] * 16
        apart(lambda: labelled_set.write(self.given, "numbers", labels, classes=4, names=names))
        self.example = labelled_set.example(sources.image(0), 1, "x")
        write_run(self, classes=False)
        self.must(
            "preview", *self._config(self.given), f"--out={self.beside}/x.png", "--images=1"
        )  # keeps the labels

    def command(self, folder: pathlib.Path, damaged: pathlib.Path, rng: random.Random) -> list[str]:
        """Commands that read a few records, or all."""
        run = f"--workdir={self.beside}/run"
        own = ["--dataset=numbers", f"--data_dir={folder}"]
        return rng.choice((
            ["preview", *self._config(folder), f"--out={self.world}/x.png", "--images=4"],
            ["preview", *self._config(folder), f"--out={self.world}/x.png", "--images=16"],
            ["features", run, "--split=images", f"--out={self.world}/new.npz", *own],
            ["train", *self._config(folder), f"--workdir={self.world}/new", "--config.epochs=1"],
        ))  # fmt: skip

    def after_damage(self, folder: pathlib.Path, rng: random.Random) -> None:
        """Sometimes, the records are damaged below the file format's own checksums."""
        (path,) = self.given.glob("numbers/1.0.0/*.array_record-*-of-00001")
        if rng.random() < 0.3:
            examples = [mutate(self.example, rng, [self.example]) for _ in range(16)]
            place = folder / path.relative_to(self.given)
            if place.is_file() and not place.is_symlink():
                apart(lambda: labelled_set.write_records(place, examples))

    def _config(self, folder: pathlib.Path) -> list[str]:
        splits = [f"--config.data.{name}_split=images" for name in ("train", "validation", "test")]
        return [f"--config={REPOSITORY}/tests/tiny.py:classification", "--config.batch_size=8",
                "--config.model.width=0.015625", "--config.data.dataset=numbers",
                f"--config.data.data_dir={folder}", *splits]  # fmt: skip


def write_run(target: Target, *, classes: bool) -> None:
    """A short run beside a target's files, for commands that need one."""
    method = "classification" if classes else "jigsaw"
    target.must("train", *tiny(method), target.data, f"--workdir={target.beside}/run")


def tiny(method: str) -> list[str]:
    """A run of two steps."""
    return [f"--config={REPOSITORY}/tests/tiny.py:{method}", "--config.epochs=1",
            "--config.model.width=0.015625", "--config.data.train_split=images[:64]",
            "--config.data.validation_split=images[64:96]",
            "--config.data.test_split=images[96:128]"]  # fmt: skip
