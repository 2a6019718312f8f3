"""Files from others that a run has written, or says it has: settings, runs, weights, studies."""

from __future__ import annotations

import contextlib
import pathlib
import random

from PIL import Image

from ssljax.runs import checksums
from tests.fuzz.command import apart
from tests.fuzz.data_targets import tiny
from tests.fuzz.target import Target


class Settings(Target):
    """JSON files of settings, as `--print_config` and a run folder have them."""

    def prepare(self) -> None:
        """See `Target`."""
        for method in ("jigsaw", "simclr", "moco", "rotation"):
            self.must("train", *tiny(method), self.data, f"--workdir={self.beside}/{method}")
            config = self.beside / method / "config.json"
            (self.given / f"{method}.json").write_bytes(config.read_bytes())
        some = "--config.data.label_fraction=0.5"  # keeps the labels of the data set
        self.must("preview", f"--config={config}", some, f"--out={self.beside}/x.png")

    def command(self, folder: pathlib.Path, damaged: pathlib.Path, rng: random.Random) -> list[str]:
        """What reads all settings, but trains for no hours."""
        config = f"--config={damaged}"
        return rng.choice((
            ["train", config, "--print_config"],
            # A data set is prepared in its folder, which is therefore not the file's.
            ["preview", config, self.data, f"--out={self.world}/x.png", "--images=2"],
            ["train", config, f"--workdir={folder}/new", "--config.model.width=-1"],
        ))  # fmt: skip


class Weights(Target):
    """PyTorch's two containers, safetensors, and an exported folder."""

    def prepare(self) -> None:
        """See `Target`."""
        self.must("train", *tiny("classification"), self.data, f"--workdir={self.beside}/run")
        self.must("weights", "export", f"{self.beside}/run", f"{self.given}/exported")
        apart(self._write_torch)

    def _write_torch(self) -> None:
        import torch
        from safetensors.torch import load_file

        state = load_file(self.given / "exported/model.safetensors")
        torch.save(state, self.given / "new.pth")
        nested = {"state_dict": state}
        torch.save(nested, self.given / "old.pth", _use_new_zipfile_serialization=False)

    def command(self, folder: pathlib.Path, damaged: pathlib.Path, rng: random.Random) -> list[str]:
        """Imports a file or the folder, or starts from it."""
        new = f"{self.world}/new"
        if damaged.parent.name == "exported" and rng.random() < 0.7:
            return ["weights", "import", str(damaged.parent), new]
        if rng.random() < 0.1:
            start = f"--config.init_from={damaged}"
            return ["train", *tiny("classification"), self.data, start, f"--workdir={new}"]
        options = ["--mean=0.5,0.5,0.5", "--std=0.5,0.5,0.5", "--image_size=64"]
        return ["weights", "import", str(damaged), new, *options]


class RunFolders(Target):
    """A finished run with results, features and probes."""

    def prepare(self) -> None:
        """See `Target`."""
        self.must("train", *tiny("jigsaw"), self.data, f"--workdir={self.beside}/pretext")
        Image.new("RGB", (64, 48)).save(self.beside / "x.png")
        self.must("train", *self.training(self.given))
        self.must("evaluate", f"--workdir={self.given}")
        self.must("probe", f"--workdir={self.given}", "--probes=knn")
        for path in self.given.glob("events.*"):
            path.unlink()

    def training(self, folder: pathlib.Path) -> list[str]:
        """The arguments of the run's own command."""
        start = f"--config.init_from={self.beside}/pretext"
        return [*tiny("classification"), self.data, start, "--config.init_layers=backbone/conv*",
                f"--workdir={folder}"]  # fmt: skip

    def after_damage(self, folder: pathlib.Path, rng: random.Random) -> None:
        """Half of the time, the checksums of checkpoints are those of the damaged files."""
        small = all(path.stat().st_size < 2**30 for path in folder.rglob("*") if path.is_file())
        if small and rng.random() < 0.5:
            for checkpoint in folder.glob("checkpoints/*/*"):
                with contextlib.suppress(OSError):  # of what is no regular file
                    checksums.write(checkpoint)

    def command(self, folder: pathlib.Path, damaged: pathlib.Path, rng: random.Random) -> list[str]:
        """Everything that takes a run."""
        run, new = f"--workdir={folder}", f"{self.world}/new"
        return rng.choice((
            ["evaluate", run],
            ["evaluate", run, "--checkpoint=latest"],
            ["predict", run, f"{self.beside}/x.png"],
            ["features", run, "--split=images[:32]", f"--out={new}.npz"],
            ["probe", run, "--probes=knn"],
            ["weights", "export", str(folder), new],
            ["train", *tiny("classification"), self.data, f"--config.init_from={folder}",
             f"--workdir={new}"],
        ))  # fmt: skip


class ResumedRuns(RunFolders):
    """A finished run whose command is given again, for one more epoch or not."""

    def command(self, folder: pathlib.Path, damaged: pathlib.Path, rng: random.Random) -> list[str]:
        """See `Target`."""
        return ["train", *self.training(folder), f"--config.epochs={rng.choice((1, 2))}"]


class Studies(Target):
    """A finished study, whose command is given again."""

    def prepare(self) -> None:
        """See `Target`."""
        for method in ("jigsaw", "classification"):
            run = f"{self.beside}/{method}"
            self.must("train", *tiny(method), self.data, f"--workdir={run}")
        (self.beside / "study.py").write_text(_STUDY)
        self.must("study", *self._arguments(self.given))
        for path in self.given.rglob("events.*"):
            path.unlink()

    def files(self) -> list[pathlib.Path]:
        """Not the checkpoints, which are another target."""
        return [path for path in super().files() if "checkpoints" not in path.parts]

    def command(self, folder: pathlib.Path, damaged: pathlib.Path, rng: random.Random) -> list[str]:
        """See `Target`."""
        return ["study", *self._arguments(folder)]

    def _arguments(self, folder: pathlib.Path) -> list[str]:
        return [f"--config={self.beside}/study.py", f"--workdir={folder}"]


_STUDY = """
import pathlib
from ssljax import arm_config, study_config
from ssljax.runs.folder import read_config

def get_config():
    config, here = study_config(), pathlib.Path(__file__).parent
    config.probes = ("knn",)
    config.pretexts.puzzle = read_config(here / "jigsaw")
    config.classification = read_config(here / "classification")
    config.arms.puzzle = arm_config("puzzle", init_layers="backbone/conv*")
    config.arms.random = arm_config("random")
    return config
"""
