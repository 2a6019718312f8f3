"""Every source, in each of its spellings, becomes a data set that can be trained on."""

from __future__ import annotations

import collections
import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from ssljax.data.digests import digest
from ssljax.data.images import decode
from ssljax.data.records import open_records
from ssljax.data.sets import fashion_mnist_10k
from ssljax.data.sets.next_command import next_command
from ssljax.prepare import prepare, summary
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from tests import sources
from tests.commands import run

pytestmark = pytest.mark.quick


def written(name: str, data_dir: pathlib.Path) -> dict[str, list[dict]]:
    """Every record by split, as TFDS itself reads them."""
    builder = tfds.builder(name, data_dir=str(data_dir))
    decoders = {"image": tfds.decode.SkipDecoding()}
    return {
        split: list(builder.as_data_source(split=split, decoders=decoders))
        for split in builder.info.splits
    }


@pytest.mark.parametrize("spelling", sources.SOURCES)
def test_every_source_is_prepared_and_trained_on(tmp_path, make_config, capsys, spelling):
    write, _, has_splits, has_labels = sources.SOURCES[spelling]
    images = sources.make_images()
    source = write(tmp_path / "source", images)
    format = "parquet" if spelling == "parquet with paths" else ""
    prepare(str(source), "flowers", str(tmp_path / "d"), format)
    found = capsys.readouterr().out
    records = written("flowers", tmp_path / "d")
    names = {"train": "train", "val": "validation", "test": "test"}
    expected = collections.defaultdict(collections.Counter)
    for (split, label, _), data in images.items():
        expected[names[split] if has_splits else ""][data, label if has_labels else None] += 1
    seen = collections.defaultdict(collections.Counter)
    for split, rows in records.items():
        classes = open_records("flowers", split, str(tmp_path / "d")).class_names
        assert set(classes) == (set(sources.CLASSES) if has_labels else set())
        for row in rows:
            label = classes[row["label"]] if has_labels else None
            seen[split if has_splits else ""][row["image"], label] += 1
    assert seen == expected
    assert set(records) == {"train", "validation", "test"}
    for split in names.values():
        assert f"{split} " in found
    assert ("Ästhetik 猫 24" in found) == has_labels

    config = make_config("jigsaw,small_net").copy_and_resolve_references().unlock()
    config.data.update(dataset="flowers", data_dir=str(tmp_path / "d"), train_split="train",
                       validation_split="validation", test_split="test")  # fmt: skip
    config.epochs, config.batch_size = 1, 8
    train(config, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").exists()


def test_bytes_are_kept_and_labels_and_digests_lie_beside(tmp_path):
    images = sources.make_images()
    prepare(str(sources.folders(tmp_path / "s", images)), "flowers", str(tmp_path / "d"))
    by_name = {f"{split}/{label}/{name}": data for (split, label, name), data in images.items()}
    for split, rows in written("flowers", tmp_path / "d").items():
        assert {row["filename"].decode() for row in rows} <= set(by_name)
        assert all(row["image"] == by_name[row["filename"].decode()] for row in rows)
        (labels,) = (tmp_path / "d/flowers/1.0.0").glob(f"*{split}*.label.npy")
        (digests,) = (tmp_path / "d/flowers/1.0.0").glob(f"*{split}*.digest.npy")
        assert np.load(labels).tolist() == [row["label"] for row in rows]
        assert np.load(digests).tolist() == [digest(row["image"]) for row in rows]
        assert sorted(np.load(digests)) == np.load(digests).tolist()  # shuffled by content


def test_made_splits_are_stratified_and_depend_on_content_only(tmp_path):
    images = sources.make_images(("train",), each=100)
    one = sources.class_folders(tmp_path / "s", images)
    renamed = {(a, b, f"other-{name}"): data for (a, b, name), data in images.items()}
    two = sources.class_folders(tmp_path / "t", renamed)
    divided = []
    for name, source, seed in (("a", one, 0), ("b", two, 0), ("c", one, 1)):
        prepare(str(source), name, str(tmp_path / "d"), splits="train:80,test:20", seed=seed)
        divided.append(written(name, tmp_path / "d"))
    for records in divided:
        assert {split: len(rows) for split, rows in records.items()} == {"train": 240, "test": 60}
        counts = collections.Counter(row["label"] for row in records["test"])
        assert all(abs(count - 20) <= 1 for count in counts.values())
    tests = [{row["image"] for row in records["test"]} for records in divided]
    assert tests[0] == tests[1]
    assert len(tests[0] & tests[2]) < 30  # another seed: 12 are expected by chance


def copies(images: sources.Images) -> sources.Images:
    """The images, and those of `train` again in `test` under other names."""
    again = {("test", label, f"again-{name}"): data
             for (split, label, name), data in images.items() if split == "train"}  # fmt: skip
    return {**images, **again}


@pytest.mark.parametrize("spelling", [name for name, row in sources.SOURCES.items() if row[2]])
def test_copies_in_two_given_splits_are_refused_or_dropped(tmp_path, capsys, spelling):
    write = sources.SOURCES[spelling][0]
    format = "parquet" if spelling == "parquet with paths" else ""
    source = write(tmp_path / "source", copies(sources.make_images(each=4)))
    with pytest.raises(InputError, match=r"12 images have a copy in another split.*\n  train: "):
        prepare(str(source), "flowers", str(tmp_path / "d"), format)
    assert not (tmp_path / "d").exists()
    # Everything in `train` has a copy in `test`, so `train` ends.
    prepare(str(source), "flowers", str(tmp_path / "d"), format, drop_duplicates=True)
    assert set(written("flowers", tmp_path / "d")) == {"validation", "test"}
    prepare(str(source), "kept", str(tmp_path / "d"), format, keep_duplicates=True)
    assert len(written("kept", tmp_path / "d")["train"]) == 12
    assert "dropped from the training side: 12 images" in capsys.readouterr().out


@pytest.mark.parametrize("spelling", [name for name, row in sources.SOURCES.items() if not row[2]])
def test_copies_are_on_one_side_of_made_splits(tmp_path, spelling):
    write = sources.SOURCES[spelling][0]
    source = write(tmp_path / "source", copies(sources.make_images(("train",), each=40)))
    prepare(str(source), "flowers", str(tmp_path / "d"), splits="train:50,test:50")
    records = written("flowers", tmp_path / "d")
    train_, test = ({row["image"] for row in records[split]} for split in ("train", "test"))
    assert not train_ & test
    assert len(records["train"]) == len(records["test"]) == 120


def test_the_same_pixels_in_another_format_are_a_copy():
    png, bmp = sources.image(1, "png"), sources.image(1, "bmp")
    assert digest(png) == digest(bmp) == digest(png, np.asarray(decode(png)))
    assert digest(png) != digest(sources.image(2, "png"))
    jpeg = sources.image(1, "jpg")
    comment = jpeg[:2] + b"\xff\xfe\x00\x06four" + jpeg[2:]
    assert digest(jpeg) == digest(comment) != digest(sources.image(2, "jpg"))


def test_large_images_are_reencoded_and_the_saving_is_said(tmp_path, capsys):
    images = {
        ("", "cats", "large.jpg"): sources.image(1, "jpg", 400),
        ("", "cats", "large.png"): sources.image(2, "png", 400),
        ("", "dogs", "small.png"): sources.image(4, "png", 30),
    }
    source = sources.class_folders(tmp_path / "s", images)
    prepare(str(source), "flowers", str(tmp_path / "d"), splits="train:100", max_side=100)
    assert "67% of the images are scaled to 100 pixels; 93% fewer to decode" in (
        capsys.readouterr().out
    )
    rows = {row["filename"].decode().split("/")[-1]: row["image"]
            for row in written("flowers", tmp_path / "d")["train"]}  # fmt: skip
    assert rows["small.png"] == images["", "dogs", "small.png"]
    assert rows["large.jpg"].startswith(b"\xff\xd8")
    for name in ("large.jpg", "large.png"):
        small, large = decode(rows[name]), decode(images["", "cats", name])
        assert max(small.size) == 100
        close = np.asarray(large.resize(small.size, 1)).astype(int) - np.asarray(small)
        assert np.abs(close).mean() < 12


BAD = {
    "empty.png": (b"", "is not a whole image"),
    "text.jpg": (b"no image", "is not a whole image: its format is not one of"),
    "half.jpg": (sources.image(1, "jpg")[:300], "is not a whole image"),
    "scan.tiff": (b"II*\0", "is not a whole image: its format is not one of"),
}


@pytest.mark.parametrize("spelling", sources.SOURCES)
def test_bad_images_are_named_or_left_out(tmp_path, capsys, spelling):
    write = sources.SOURCES[spelling][0]
    format = "parquet" if spelling == "parquet with paths" else ""
    bad = {("test", "cats", name): data for name, (data, _) in BAD.items()}
    source = write(tmp_path / "source", {**sources.make_images(each=3), **bad})
    with pytest.raises(InputError, match="4 of 31 images cannot be used:") as error:
        prepare(str(source), "flowers", str(tmp_path / "d"), format)
    assert str(error.value).count("is not a whole image") == 4
    assert "--skip_bad_images" in str(error.value)
    assert not (tmp_path / "d").exists()
    prepared = prepare(str(source), "flowers", str(tmp_path / "d"), format, skip_bad_images=True)
    assert sum(map(len, written("flowers", tmp_path / "d").values())) == 27
    assert len(prepared.metadata["skipped_images"]) == 4


def test_links_and_names_that_leave_the_source_are_refused(tmp_path):
    (tmp_path / "secret.png").write_bytes(sources.image(1))
    source = sources.folders(tmp_path / "s", sources.make_images(each=3))
    (source / "train/cats/link.png").symlink_to(tmp_path / "secret.png")
    (source / "train/cats/inside.png").symlink_to(source / "train/dogs/003.png")
    with pytest.raises(InputError, match=r"link.png is a link that leaves the source"):
        prepare(str(source), "flowers", str(tmp_path / "d"))
    for name in ("../secret.png", str(tmp_path / "secret.png")):
        (tmp_path / "s" / "list.csv").write_text(f"path,label\n{name},a\n")
        with pytest.raises(InputError, match="has a name that points outside the source"):
            prepare(str(source / "list.csv"), "flowers", str(tmp_path / "d"))
    assert not (tmp_path / "d").exists()


@pytest.mark.seconds
@pytest.mark.parametrize("spelling", ["split folders", "parquet with bytes", "tar with cls"])
def test_a_killed_preparation_leaves_nothing_that_is_taken_for_whole(tmp_path, spelling):
    write = sources.SOURCES[spelling][0]
    source = write(tmp_path / "source", sources.make_images(each=150))
    folder = tmp_path / "d" / "flowers"
    arguments = [f"--source={source}", "--name=flowers", f"--data_dir={tmp_path / 'd'}"]
    command = [sys.executable, "-m", "ssljax.prepare", *arguments]
    for moment in ("index.sqlite", "data", "data/flowers-t*"):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            while run.poll() is None and not list(folder.glob(f"incomplete.*/{moment}")):
                time.sleep(0.001)
            os.kill(run.pid, signal.SIGKILL)
        if run.returncode == -signal.SIGKILL:
            assert not (folder / "1.0.0").exists()
    prepare(str(source), "flowers", str(tmp_path / "d"))
    assert sum(map(len, written("flowers", tmp_path / "d").values())) == 3 * 3 * 150
    assert [path.name for path in folder.iterdir()] == ["1.0.0"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("size", ["8k", "48k", "160k", "300k"])
@pytest.mark.parametrize("spelling", ["split folders", "parquet with bytes"])
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, size, spelling):
    source = sources.SOURCES[spelling][0](tmp_path / "s", sources.make_images())
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(InputError, match=r"cannot write .*: the disk is full"):
            prepare(str(source), "flowers", str(small / "deep" / "down"))
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_what_killed_preparations_left_is_removed_at_once_and_nothing_else(tmp_path):
    source = sources.folders(tmp_path / "s", sources.make_images(each=1))
    folder = tmp_path / "d" / "flowers"
    for name in ("incomplete.dead", "incomplete.running"):
        (folder / name).mkdir(parents=True)
        (folder / name / "shard").write_bytes(b"x")
    lock = os.open(folder / "incomplete.running", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    prepare(str(source), "flowers", str(tmp_path / "d"))
    os.close(lock)
    assert {path.name for path in folder.iterdir()} == {"1.0.0", "incomplete.running"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"source": "none"}, "--source: there is no none"),
        ({"source": "empty"}, "--source: empty has no images, but no files"),
        ({"source": "text"}, "text has no images, but only 1 .txt files"),
        ({"format": "folders"}, "--format: unknown format 'folders'; did you mean 'folder'"),
        ({"format": "csv"}, "is not a table, and has not exactly one"),
        ({"format": "parquet"}, "has no file with .parquet"),
        ({"name": "My Flowers"}, "--name must be lower-case letters, digits and _"),
        ({"data_dir": "gs://bucket/d"}, "data sets are written to disks"),
        ({"splits": "train:90,train:10"}, "--splits must be NAME:SHARE"),
        ({"splits": ":5"}, "--splits must be NAME:SHARE"),
        ({"splits": "train:-1"}, "--splits must be NAME:SHARE"),
        (
            {"source": "photos", "columns": "label:a"},
            "photos is read as folder, which has no columns",
        ),
        (
            {"drop_duplicates": True, "keep_duplicates": True},
            "--drop_duplicates and --keep_duplicates exclude each other",
        ),
        ({"columns": "picture:file"}, "--columns: 'picture:file' is not ROLE:COLUMN"),
        ({"source": "list.csv"}, "no column of list.csv is known to be the image; it has a, b"),
        ({"source": "list.csv", "columns": "image:c"}, "list.csv has no column 'c'"),
        ({"source": "text/a.txt"}, "is not recognised; it must be a folder of images"),
    ],
)
def test_mistakes_in_the_command_are_named(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    sources.folders(tmp_path / "photos", sources.make_images(each=1))
    (tmp_path / "empty").mkdir()
    sources.write_files(tmp_path, {"text/a.txt": b"", "list.csv": b"a,b\n1,2\n"})
    with pytest.raises(InputError, match=said):
        prepare(**{"source": "photos", "data_dir": "d", **arguments})
    assert not (tmp_path / "d").exists()


def test_preparing_again_needs_the_same_request(tmp_path, capsys):
    source = sources.folders(tmp_path / "photos", sources.make_images(each=2))
    first = prepare(str(source), data_dir=str(tmp_path / "d"))
    again = prepare(str(source), data_dir=str(tmp_path / "d"))
    assert "photos is prepared already; remove " in capsys.readouterr().out
    assert summary(first) == summary(again)
    with pytest.raises(InputError, match="is prepared already with --max_side=0, not 8; choose"):
        prepare(str(source), data_dir=str(tmp_path / "d"), max_side=8)


def test_a_data_set_of_that_name_that_others_prepared_is_not_taken_for_it(tmp_path):
    source = sources.folders(tmp_path / "photos", sources.make_images(each=2))
    prepare(fashion_mnist_10k.NAME, data_dir=str(tmp_path / "d"))
    with pytest.raises(InputError, match="was not prepared with this command; choose another --n"):
        prepare(str(source), name=fashion_mnist_10k.NAME, data_dir=str(tmp_path / "d"))


def typed(lines: list[str]) -> list[str]:
    """The arguments that a shell makes of the lines of a command, after `python`."""
    text = "python() { printf '%s\\n' \"$@\"; }\n" + "\n".join(lines)
    # As zsh, it refuses patterns that match no file.
    command = ["bash", "-O", "failglob", "-c", text]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.parametrize(
    ("splits", "parts"),
    [
        (("train", "val", "test"), {}),
        (("train", "test"), {"train": "train[:90%]", "validation": "train[90%:]"}),
        (("train", "val"), {"train": "train[:90%]", "test": "train[90%:]"}),
        (("train",), {"train": "train[:80%]", "validation": "train[80%:90%]",
                      "test": "train[90%:]"}),
    ],
)  # fmt: skip
def test_the_next_command_takes_what_is_missing_from_train(tmp_path, splits, parts):
    source = sources.folders(tmp_path / "s", sources.make_images(splits, each=10))
    prepared = prepare(str(source), "flowers", data_dir := str(tmp_path / "d d"))
    assert set(prepared.splits) == {{"val": "validation"}.get(split, split) for split in splits}
    words = typed(next_command(prepared, data_dir))
    flags = [f"--config.data.{split}_split={part}" for split, part in parts.items()]
    assert words[5:] == [f"--config.data.data_dir={data_dir}", *flags]
    counts = [len(open_records("flowers", part, data_dir)) for part in parts.values()]
    assert sum(counts) == (30 if parts else 0)
    assert min(counts, default=3) == 3


@pytest.mark.seconds
@pytest.mark.parametrize("splits", [("train",), ("train", "test")])
def test_the_next_commands_work(tmp_path, splits):
    """That of `prepare`, and those that it prints: none tests on images that were trained on."""
    source = sources.folders(tmp_path / "s", sources.make_images(splits, each=60))
    arguments = [f"--source={source}", "--name=flowers", f"--data_dir={tmp_path / 'd'}"]
    said, _, lines = run("prepare", *arguments).stdout.partition("to train on it:\n")
    missing = "no split validation" + " and no test" * (splits == ("train",))
    assert f"there is {missing}: parts of train take the place" in said
    module, *settings = typed(lines.splitlines())[1:]
    assert module == "ssljax.train"
    settings[settings.index("--workdir=runs/flowers")] = f"--workdir={tmp_path / 'run'}"
    small = ["--config.epochs=1", "--config.model.width=0.0625", "--config.batch_size=16"]
    done = run("train", *settings, *small)
    commands = [typed([line])[1:] for line in done.stdout.splitlines() if "python -m" in line]
    assert [module for module, *_ in commands] == [
        "ssljax.evaluate",
        "ssljax.probe",
        "ssljax.train",
    ]
    for module, *settings in commands:
        done = run(module.removeprefix("ssljax."), *settings)
        assert "warning" not in done.stderr
        assert "are also in" not in done.stderr
    assert (tmp_path / "run-classification" / "metrics.jsonl").exists()
