from __future__ import annotations

import collections
import pathlib
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds

from ssljax.data.prepared import open_prepared
from ssljax.data.records import open_records
from ssljax.data.sets.deep_fashion.lists import read_listing
from ssljax.prepare import prepare, summary
from ssljax.settings.errors import InputError
from tests.deep_fashion_folder import prepare_deep_fashion, write_folder, write_list

pytestmark = pytest.mark.quick


@pytest.fixture
def source(tmp_path) -> pathlib.Path:
    write_folder(tmp_path / "source")
    return tmp_path / "source"


def examples(config, split, data_dir):
    """Every feature, as TFDS itself reads them."""
    folder = open_prepared(f"deep_fashion/{config}", str(data_dir)).folder
    builder = tfds.builder_from_directory(folder)
    decoders = {"image": tfds.decode.SkipDecoding()}
    return builder.as_data_source(split=split, decoders=decoders)


@pytest.mark.parametrize("annotations", ["Anno", "Anno_coarse"])
@pytest.mark.parametrize("photographs", ["Img/img", "img"])
def test_every_layout_is_read_and_its_bytes_are_kept(tmp_path, annotations, photographs):
    names = write_folder(tmp_path / "s", annotations=annotations, photographs=photographs)
    prepare_deep_fashion("official", str(tmp_path / "s"), str(tmp_path / "d"))
    seen = {}
    for split in ("train", "validation", "test"):
        records = open_records("deep_fashion/official", split, str(tmp_path / "d"))
        assert records.class_names == ("Blouse", "Jeans", "Dress", "Cape", "Tee")
        for example in examples("official", split, tmp_path / "d"):
            seen[example["filename"].decode()] = (split, example)
    assert sorted(seen) == sorted(names)
    root = tmp_path / "s" / photographs.removesuffix("img")
    listing = {row.name: row for row in read_listing(tmp_path / "s").photographs}
    for name, (split, example) in seen.items():
        assert example["image"] == (root / name).read_bytes()
        assert split == listing[name].partition
        assert example["label"] == listing[name].label
        assert tuple(example["bbox"]) == listing[name].bbox


def test_slides_splits_match_a_plain_loop(source, tmp_path):
    prepare_deep_fashion("slides", str(source), str(tmp_path / "d"))
    rows = collections.defaultdict(list)
    partition = {}
    for line in (source / "Anno/list_category_img.txt").read_text().splitlines()[2:]:
        name, category = line.split()
        rows[category].append(name)
    for line in (source / "Eval/list_eval_partition.txt").read_text().splitlines()[2:]:
        name, status = line.split()
        partition[name] = {"train": "train", "val": "validation", "test": "test"}[status]
    expected = collections.defaultdict(set)
    for names in rows.values():
        for index, name in enumerate(names):
            side = "pretext_" if index < int(0.7 * len(names) + 1e-9) else ""
            expected[side + partition[name]].add(name)
    assert len(expected) == 6
    for split, names in expected.items():
        read = examples("slides", split, tmp_path / "d")
        assert {example["filename"].decode() for example in read} == names


def test_preparing_twice_writes_once(source, tmp_path):
    prepared = prepare_deep_fashion("slides", str(source), str(tmp_path / "d"))
    files = {path: path.stat().st_mtime_ns for path in prepared.folder.iterdir()}
    again = prepare_deep_fashion("slides", str(source), str(tmp_path / "d"))
    assert files == {path: path.stat().st_mtime_ns for path in files}
    assert summary(again) == summary(prepared)
    assert "pretext_train               24        4" in "\n".join(summary(prepared))


def test_the_command_recognises_the_folder_and_names_the_data_set(source, tmp_path):
    prepared = prepare(str(source), data_dir=str(tmp_path / "d"), name="clothes")
    assert prepared.folder == tmp_path / "d/clothes/slides/1.0.0"
    assert len(open_records("clothes/slides", "train", str(tmp_path / "d"))) > 0
    official = prepare(str(source), data_dir=str(tmp_path / "d"), format="deep_fashion/official")
    assert pathlib.Path(official.folder) == tmp_path / "d/deep_fashion/official/1.0.0"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"source": "/none"}, "--source: there is no /none"),
        ({"format": "deep_fashion"}, "--format: unknown format 'deep_fashion'; did you mean"),
        ({"name": "My Clothes"}, "--name must be lower-case letters, digits and _"),
        ({"data_dir": "gs://bucket/d"}, "data sets are written to disks"),
    ],
)
def test_mistakes_in_the_command_are_named(source, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        prepare(**{"source": str(source), "data_dir": str(tmp_path / "d"), **arguments})
    assert not (tmp_path / "d").exists()


def test_labels_are_kept_beside_the_records(source, tmp_path, monkeypatch):
    prepare_deep_fashion("official", str(source), str(tmp_path / "d"))
    folder = tmp_path / "d/deep_fashion/official/1.0.0"
    assert len(list(folder.glob("*.array_record-*.label.npy"))) == 3
    records = open_records("deep_fashion/official", "train[2:]", str(tmp_path / "d"))
    expected = [records[index][1] for index in range(len(records))]
    monkeypatch.setattr(type(records), "_parse", None)  # no record is read
    assert records.labels().tolist() == expected


def replace(path: pathlib.Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


FIRST = "img/Some_Blouse/img_00000001.jpg"
MISTAKES = {
    "missing list": (
        lambda s: (s / "Anno/list_bbox.txt").unlink(),
        r"annotation file .*Anno/list_bbox.txt is missing",
    ),
    "no annotation folder": (
        lambda s: (s / "Anno").rename(s / "Other"),
        "there is no Anno/list_category_img.txt or Anno_coarse/list_category_img.txt",
    ),
    "count": (
        lambda s: replace(s / "Anno/list_category_img.txt", "60\n", "61\n"),
        "list_category_img.txt: line 1 announces 61 rows, but there are 60",
    ),
    "count is no number": (
        lambda s: replace(s / "Eval/list_eval_partition.txt", "60\n", "many\n"),
        "list_eval_partition.txt, line 1: .* expected an integer, got 'many'",
    ),
    "leaves the folder": (
        lambda s: [
            replace(path, f"{FIRST}  ", "img/../../secret.jpg  ")
            for path in (s / "Anno/list_category_img.txt", s / "Anno/list_bbox.txt",
                         s / "Eval/list_eval_partition.txt")
        ],
        "line 3: image name 'img/../../secret.jpg' points outside the folder",
    ),
    "category": (
        lambda s: replace(s / "Anno/list_category_img.txt", " 1\n", " 7\n"),
        "line 3: category 7 of .* is out of range; list_category_cloth.txt has 1 to 6",
    ),
    "category 0": (
        lambda s: replace(s / "Anno/list_category_img.txt", " 1\n", " 0\n"),
        "category 0 of .* is out of range",
    ),
    "partition": (
        lambda s: replace(s / "Eval/list_eval_partition.txt", " val\n", " dev\n"),
        "line 6: unknown partition 'dev'; known:",
    ),
    "box": (
        lambda s: replace(s / "Anno/list_bbox.txt", " 1  2  ", " 1  x  "),
        "list_bbox.txt, line 3: expected an integer, got 'x'",
    ),
    "box beyond 32 bits": (
        lambda s: replace(s / "Anno/list_bbox.txt", " 1  2  ", f" 1  {2**31}  "),
        "list_bbox.txt, line 3: expected an integer below 2,147,483,648, got 2147483648",
    ),
    "columns": (
        lambda s: replace(s / "Anno/list_bbox.txt", " 1  2  ", " "),
        "list_bbox.txt, line 3: expected 5 columns",
    ),
    "more in the boxes": (
        lambda s: [
            replace(s / "Anno/list_bbox.txt", "60\n", "61\n"),
            replace(s / "Anno/list_bbox.txt", "img/", "img/x.jpg 1 2 3 4\nimg/"),
        ],
        "list_bbox.txt lists 1 images that .*list_category_img.txt does not, such as img/x.jpg",
    ),
    "empty folder beside the archive": (
        lambda s: (
            (s / "Img/img").rename(s / "x"), (s / "Img/img").mkdir(), (s / "Img/img.zip").touch()
        ),
        "img.zip is not unpacked yet: run `unzip",
    ),
    "not in the partition": (
        lambda s: replace(s / "Eval/list_eval_partition.txt", "img_00000004", "img_99999999"),
        "line 6: img/Some_Blouse/img_00000004.jpg is not listed in list_eval_partition.txt",
    ),
    "listed twice": (
        lambda s: replace(s / "Anno/list_category_img.txt", "img_00000002", "img_00000001"),
        "line 4: .*img_00000001.jpg is listed twice",
    ),
    "not text": (
        lambda s: (s / "Anno/list_bbox.txt").write_bytes(b"\xff\xfe\x00"),
        "list_bbox.txt cannot be read",
    ),
    "still packed": (
        lambda s: ((s / "Img/img").rename(s / "x"), (s / "Img/img.zip").touch()),
        "img.zip is not unpacked yet: run `unzip",
    ),
    "no photographs": (lambda s: (s / "Img/img").rename(s / "x"), "no photographs in"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_the_folder_are_named_and_nothing_is_written(source, tmp_path, mistake):
    spoil, said = MISTAKES[mistake]
    spoil(source)
    with pytest.raises(InputError, match=said):
        prepare_deep_fashion("slides", str(source), str(tmp_path / "d"))
    assert not (tmp_path / "d").exists()


def spoil_images(source: pathlib.Path) -> None:
    folder = source / "Img/img/Some_Blouse"
    paths = sorted(folder.iterdir())
    paths[0].unlink()
    paths[1].write_bytes(b"no image")
    for path in paths[2:12]:
        path.write_bytes(path.read_bytes()[:-200])


def test_bad_images_are_counted_and_the_first_ten_named(source, tmp_path):
    spoil_images(source)
    with pytest.raises(InputError) as error:
        prepare_deep_fashion("slides", str(source), str(tmp_path / "d"))
    message = str(error.value)
    assert "12 of 60 images cannot be used" in message
    assert "img_00000001.jpg is missing" in message
    assert "img_00000002.jpg is not a whole image" in message
    assert "img_00000010.jpg is not a whole image" in message
    assert "img_00000011.jpg" not in message
    assert "and 2 more" in message
    assert "--skip_bad_images" in message
    assert not (tmp_path / "d").exists()


def test_skipping_bad_images_moves_no_other_image(source, tmp_path, capsys):
    prepare_deep_fashion("slides", str(source), str(tmp_path / "whole"))
    spoil_images(source)
    prepare_deep_fashion("slides", str(source), str(tmp_path / "rest"), skip_bad=True)
    assert "12 of 60 images cannot be used" in capsys.readouterr().out
    kept = 0
    for split in ("pretext_train", "pretext_validation", "train", "test"):
        names = []
        for directory in ("whole", "rest"):
            read = examples("slides", split, tmp_path / directory)
            names.append({example["filename"] for example in read})
        assert names[1] <= names[0]
        kept += len(names[1])
    assert 0 < kept <= 48


def test_no_tensorflow_is_imported(source, tmp_path):
    code = (
        "import sys; from tests.deep_fashion_folder import prepare_deep_fashion as p\n"
        f"p('official', {str(source)!r}, {str(tmp_path / 'd')!r})\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_absolute_image_name_is_refused(source, tmp_path):
    for name, header in (
        ("Anno/list_category_img.txt", "image_name category_label"),
        ("Anno/list_bbox.txt", "image_name x_1 y_1 x_2 y_2"),
        ("Eval/list_eval_partition.txt", "image_name evaluation_status"),
    ):
        row = {
            "l": ("/etc/passwd", 1),
            "b": ("/etc/passwd", 1, 2, 3, 4),
            "e": ("/etc/passwd", "val"),
        }
        key = "e" if "Eval" in name else "b" if "bbox" in name else "l"
        write_list(source / name, header, [row[key]])
    with pytest.raises(InputError, match="'/etc/passwd' points outside the folder"):
        prepare_deep_fashion("slides", str(source), str(tmp_path / "d"))


def test_nothing_is_written_if_no_image_is_left(source, tmp_path):
    for name in (source / "Eval/list_eval_partition.txt").read_text().split():
        if name.endswith(("1.jpg", "6.jpg", "2.jpg", "7.jpg", "3.jpg", "8.jpg")):
            (source / "Img" / name).write_bytes(b"no image")
    with pytest.raises(InputError, match="no image of the split .* can be used; is .* complete"):
        prepare_deep_fashion("slides", str(source), str(tmp_path / "d"), skip_bad=True)
    assert not (tmp_path / "d").exists()
