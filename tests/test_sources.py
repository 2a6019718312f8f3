"""Sources that could be misread: what is in them is told apart, or refused with names."""

from __future__ import annotations

import io
import pathlib
import tarfile

import pytest

from ssljax.data.sets.folder import open_folder
from ssljax.data.sets.formats import recognise
from ssljax.data.sets.webdataset import open_webdataset
from ssljax.settings.errors import InputError
from tests import sources

pytestmark = pytest.mark.quick


def archive(path: pathlib.Path, names: dict[str, bytes]) -> list[tuple[str, str | None, bool]]:
    """(name, label, whether it is usable) of what is found in a tar file of these members."""
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as file:
        for name, data in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    items = open_webdataset(path.parent, [path]).items()
    return [(item.name.partition("/")[2], item.label, item.fault is None) for item in items]


@pytest.mark.parametrize("name", ["a.tar", "a.tgz"])
def test_photographs_with_dots_in_their_names_are_all_found(tmp_path, name):
    image = sources.image(1)
    names = ["cats/2021.05.01.png", "cats/2021.05.02.png", "cats/2021.06.png", "dogs/2022.01.png"]
    found = archive(tmp_path / name, dict.fromkeys(names, image))
    assert found == [(name, None, True) for name in names]


def test_the_image_of_an_example_is_the_one_with_its_name(tmp_path):
    image = sources.image(1)
    found = archive(
        tmp_path / "a.tar",
        {
            "0.depth.png": image, "0.png": image, "0.cls": b"3",
            "1.left.png": image, "1.right.png": image, "1.cls": b"4",
        },
    )  # fmt: skip
    assert found == [
        ("0.png", "3", True), ("1.left.png", "4", True), ("1.right.png", "4", False),
    ]  # fmt: skip


def test_an_image_beside_folders_of_splits_makes_them_no_classes(tmp_path):
    image = sources.image(1)
    names = [f"{split}/{label}/1.png" for split in ("train", "test") for label in ("cat", "dog")]
    sources.write_files(tmp_path, dict.fromkeys([*names, "cover.png"], image))
    items = {item.name: item for item in open_folder(tmp_path).items()}
    assert {(items[name].split, items[name].label) for name in names} == {
        ("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "dog"),
    }  # fmt: skip
    assert items["cover.png"].fault == "lies beside the folders of splits"


def test_a_table_that_lists_no_files_is_not_taken_for_one_of_images(tmp_path):
    source = sources.folders(tmp_path / "photos", sources.make_images(each=2))
    (source / "notes.csv").write_text(f"image,note\n{'x' * 300},good\n")
    assert recognise(source) == "folder"


def test_splits_beside_other_folders_are_refused(tmp_path):
    files = [f"{top}/{label}/1.png" for top in ("train", "test", "holdout") for label in "ab"]
    sources.write_files(tmp_path, dict.fromkeys(files, sources.image(1)))
    with pytest.raises(InputError, match=r"has test, train, which are named .* them holdout; move"):
        open_folder(tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    files = [f"{top}/1.png" for top in ("train", "bus", "tram")]
    sources.write_files(tmp_path, dict.fromkeys(files, sources.image(1)))
    assert {item.label for item in open_folder(tmp_path).items()} == {"train", "bus", "tram"}


def test_missing_values_of_parquet_are_no_class_and_no_split(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra `parquet`")
    import pyarrow

    from ssljax.data.sets.parquet import open_parquet

    def write(**columns):
        table = pyarrow.table({"image": [sources.image(1)] * 3, **columns})
        parquet.write_table(table, tmp_path / "a.parquet")
        return open_parquet(tmp_path, [tmp_path / "a.parquet"], {}).items()

    assert [item.label for item in write(label=[1.0, float("nan"), None])] == ["1", None, None]
    with pytest.raises(InputError, match="a.parquet#1 has no split in column 'split'"):
        list(write(split=["train", None, "test"]))
