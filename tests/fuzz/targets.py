"""What reads strangers' files, each with the files that it starts from.

A target takes a folder in which one file was damaged. It may succeed or raise `InputError`; it may
raise nothing else, run nothing, and change no file outside the folder.
"""

from __future__ import annotations

import contextlib
import io
import pathlib
import warnings
from collections.abc import Callable

import jax
import msgspec
import numpy as np
from PIL import Image

from ssljax.data import fast_images, images
from ssljax.data.decoder import Decoder
from ssljax.data.records import open_records
from ssljax.data.sets.deep_fashion.lists import read_listing
from ssljax.files import storage
from ssljax.files.packed_bits import packed
from ssljax.models.batch_norm import COLLECTION
from ssljax.models.torch import description
from ssljax.models.torch.layout import OTHERS
from ssljax.models.torch.layouts import ALEXNET, RESNETS, read_file
from ssljax.prepare import prepare
from ssljax.runs.saved_evaluations import SavedEvaluation, read_all
from ssljax.settings import config_files
from ssljax.settings.errors import InputError
from tests import labelled_set, sources
from tests.deep_fashion_folder import write_folder
from tests.networks import Classifier

REPOSITORY = pathlib.Path(__file__).parent.parent.parent


class Target:
    """A reader, a folder of good files, and which of them are damaged."""

    def __init__(self, seed_folder: pathlib.Path):
        self.folder = seed_folder
        self.prepare()

    def prepare(self) -> None:
        """Writes the good files."""
        raise NotImplementedError

    def files(self) -> list[pathlib.Path]:
        """The good files that can be damaged."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def read(self, folder: pathlib.Path, damaged: pathlib.Path) -> None:
        """Reads a copy of the folder in which one file is damaged."""
        raise NotImplementedError


class AnnotationLists(Target):
    """DeepFashion's four lists."""

    def prepare(self) -> None:
        """See `Target`."""
        write_folder(self.folder, images=8)

    def files(self) -> list[pathlib.Path]:
        """The lists only; the photographs are another target."""
        return sorted(self.folder.rglob("*.txt"))

    def read(self, folder: pathlib.Path, damaged: pathlib.Path) -> None:
        """Every path that is accepted must be in the folder."""
        for photograph in read_listing(folder).photographs:
            assert folder.resolve() in photograph.path.resolve().parents, photograph


class Images(Target):
    """Images of every format and of several modes."""

    def prepare(self) -> None:
        """See `Target`."""
        rng = np.random.default_rng(0)
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        image = small.resize((64, 48))
        for kind, options in (
            ("JPEG", {"quality": 80}), ("PNG", {}), ("GIF", {}), ("BMP", {}), ("WEBP", {}),
        ):  # fmt: skip
            image.save(self.folder / f"rgb.{kind.lower()}", kind, **options)
        image.save(self.folder / "progressive.jpeg", progressive=True)
        image.convert("CMYK").save(self.folder / "cmyk.jpeg")
        for mode in ("L", "P", "RGBA", "1"):
            image.convert(mode).save(self.folder / f"{mode}.png")
        Image.fromarray(rng.integers(0, 2**16, (48, 64), np.uint16)).save(self.folder / "16bit.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(self.folder / "turned.jpeg", exif=exif)
        for mode, subsampling in (("L", 0), ("RGB", 0), ("RGB", 1), ("RGB", 2)):
            name = f"{mode}-{subsampling}.jpeg"
            image.convert(mode).save(
                self.folder / name, subsampling=subsampling, restart_marker_blocks=5
            )

    def read(self, folder: pathlib.Path, damaged: pathlib.Path) -> None:
        """Decodes and crops as a reader thread does; exact decoding is as Pillow alone does it."""
        data = damaged.read_bytes()
        pixels = np.empty((32, 32, 3), np.uint8)
        try:
            image = images.decode(data)
        except images.ImageError as error:
            with contextlib.suppress(images.ImageError):
                raise AssertionError(Decoder(32).decode(data)) from error
            raise InputError(str(error)) from error
        np.testing.assert_array_equal(Decoder(32).decode(data), image)
        Decoder(32).square(data, np.random.default_rng(0), pixels)
        fast_images.square(data, np.random.default_rng(0), pixels)


class Sources(Target):
    """What `prepare` reads beside images: tables, Parquet and tar files."""

    def prepare(self) -> None:
        """See `Target`."""
        made = sources.make_images(("train", "test"), each=1)
        for name in ("csv", "tsv", "parquet with bytes", "tar with json", "packed tar"):
            sources.SOURCES[name][0](self.folder / name.replace(" ", "_"), made)

    def files(self) -> list[pathlib.Path]:
        """Not the images beside the tables."""
        endings = (".csv", ".tsv", ".parquet", ".tar", ".gz")
        return [path for path in super().files() if path.suffix in endings]

    def read(self, folder: pathlib.Path, damaged: pathlib.Path) -> None:
        """Prepares the source; what is written is read."""
        place = damaged.parent.parent if damaged.suffix == ".parquet" else damaged.parent
        source = damaged if damaged.suffix in (".csv", ".tsv") else place
        data_dir = folder / "prepared"
        prepared = prepare(
            str(source), "damaged", str(data_dir), skip_bad_images=True, keep_duplicates=True
        )
        for split in prepared.splits:
            records = open_records("damaged", split, str(data_dir))
            assert len(records.read(range(len(records)))) == len(records)


class Weights(Target):
    """PyTorch's two containers and safetensors."""

    def prepare(self) -> None:
        """See `Target`."""
        import safetensors.numpy
        import safetensors.torch
        import torch

        params = Classifier(3, width=1 / 64).init()
        state = {
            name: torch.from_numpy(np.array(value)) for name, value in ALEXNET.write(params).items()
        }
        torch.save(state, self.folder / "new.pth")
        torch.save(state, self.folder / "old.pth", _use_new_zipfile_serialization=False)
        shapes = jax.eval_shape(Classifier(3, name="resnet18", width=1 / 64).init_all)
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        resnet = RESNETS["resnet18"].write(zeros["params"], zeros[COLLECTION])
        resnet |= {f"{OTHERS}params/projector/kernel": np.zeros((2, 2), np.float32)}
        safetensors.numpy.save_file(resnet, self.folder / "resnet.safetensors")
        metadata = description.IMAGENET.metadata()
        safetensors.torch.save_file(state, self.folder / "weights.safetensors", metadata)

    def read(self, folder: pathlib.Path, damaged: pathlib.Path) -> None:
        """Loads the damaged file."""
        read_file(damaged)
        description.read(damaged)


class RunFolders(Target):
    """A finished run that is loaded as a library does, and whose metrics are read."""

    def prepare(self) -> None:
        """See `Target`."""
        from ssljax.training.loop import train

        source = self.folder.with_name("source")
        for method, folder in (("jigsaw", source), ("classification", self.folder)):
            config = config_files.load(f"{REPOSITORY}/tests/tiny.py:{method}")
            config.data.data_dir = str(self.folder.with_name("tfds"))
            config.data.train_split, config.data.validation_split = "images[:32]", "images[32:64]"
            config.epochs, config.model.width = 1, 1 / 64
            config.init_from = str(source) if folder != source else ""
            train(config, folder)
        self.config = config
        for path in self.folder.glob("events.*"):
            path.unlink()

    def read(self, folder: pathlib.Path, damaged: pathlib.Path) -> None:
        """What `evaluate`, `predict` and the report do first."""
        from ssljax.runs.metrics_log import read_metrics
        from ssljax.runs.trained_model import load_run

        load_run(folder)
        read_metrics(folder)


class ResumedRuns(RunFolders):
    """A finished run whose command is given again."""

    def read(self, folder: pathlib.Path, damaged: pathlib.Path) -> None:
        """Checks config and start, and restores the latest checkpoint."""
        from ssljax.training.loop import train

        train(self.config, folder)


class PreparedSets(Target):
    """The description, the records and the kept labels of a prepared data set."""

    def prepare(self) -> None:
        """See `Target`."""
        labelled_set.write(self.folder, "numbers", [0, 1, 2, 3], names=["a", "b", "c", "d"])
        open_records("numbers", "images", str(self.folder)).labels()

    def read(self, folder: pathlib.Path, damaged: pathlib.Path) -> None:
        """What training does first, and a batch."""
        records = open_records("numbers", "images", str(folder))
        records.labels()
        for index, (data, _) in enumerate(records.read(range(min(4, len(records))))):
            records.where(index)
            try:
                images.decode(data)
            except images.ImageError as error:
                raise InputError(str(error)) from error


class Evaluations(Target):
    """Results that `evaluate` has written."""

    def prepare(self) -> None:
        """See `Target`."""
        result = SavedEvaluation(
            "numbers", "test", "best", 3, 4, {"top1": 0.75}, {"top1": 0.1}, {"top1": 0.5},
            ["a", "b"], [[2, 0], [1, 1]], packed(np.array([True, True, False, True])),
        )  # fmt: skip
        (self.folder / "evaluation").mkdir()
        storage.write_json(self.folder / "evaluation/a.json", msgspec.to_builtins(result))

    def read(self, folder: pathlib.Path, damaged: pathlib.Path) -> None:
        """As a model card does."""
        for result in read_all(folder):
            result.command("other")


TARGETS: dict[str, type[Target]] = {
    "annotation lists": AnnotationLists,
    "images": Images,
    "sources": Sources,
    "weights": Weights,
    "run folders": RunFolders,
    "resumed runs": ResumedRuns,
    "prepared data sets": PreparedSets,
    "evaluations": Evaluations,
}


def quietly(function: Callable[[], None]) -> None:
    """Keeps what libraries print about damaged files to themselves."""
    with (
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        function()
