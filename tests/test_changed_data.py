"""A run whose data set has changed does not go on as if it had not."""

from __future__ import annotations

import shutil

import pytest

from ssljax.prepare import prepare
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from tests import sources


def change(source, how: str) -> None:
    if how == "more images":
        sources.write_files(source, {"train/cats/new.png": sources.image(999)})
    else:
        for split in ("train", "val", "test"):
            (source / split / "cats").rename(source / split / "lynxes")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("more images", r"flowers has 25 images in train, and had 24 when the run was saved"),
        ("another class", r"has the classes \['dogs', 'lynxes'.* and had \['cats', 'dogs'"),
    ],
)
def test_a_run_does_not_continue_with_other_data(tmp_path, make_config, how, said):
    source = sources.folders(tmp_path / "source", sources.make_images())
    prepare(str(source), "flowers", str(tmp_path / "d"))
    config = make_config("classification,small_net").copy_and_resolve_references().unlock()
    config.data.update(dataset="flowers", data_dir=str(tmp_path / "d"), train_split="train",
                       validation_split="validation", test_split="test")  # fmt: skip
    config.epochs, config.batch_size = 1, 8
    train(config, tmp_path / "run")
    change(source, how)
    shutil.rmtree(tmp_path / "d")
    prepare(str(source), "flowers", str(tmp_path / "d"))
    with pytest.raises(InputError, match=f"{said}.*; prepare it as it was, or train in a new"):
        train(config, tmp_path / "run")
