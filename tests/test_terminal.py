"""Names from strangers act on no terminal, whatever a command prints."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ssljax.prepare import prepare
from ssljax.report import document
from ssljax.settings.errors import InputError
from tests import hostile
from tests.conftest import REPOSITORY
from tests.fast_compilation import FLAGS
from tests.test_hostile_names import Tags

COMMANDS = """
import importlib, json, sys
for module, *arguments in json.loads(sys.argv[1]):
    sys.argv = [module, *arguments]
    importlib.import_module(f"ssljax.{module}").cli()
"""


def run(folder, *commands) -> subprocess.CompletedProcess[bytes]:
    """Runs commands one after the other in a process of their own, which starts only once."""
    return subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "XLA_FLAGS": FLAGS},
        capture_output=True,
    )


def write_images(folder, count: int) -> list[str]:
    """Images of different content, named by numbers."""
    folder.mkdir()
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return [f"{index}.png" for index in range(count)]


def test_commands_show_strangers_names_without_acting_on_the_terminal(tmp_path):
    names = write_images(tmp_path / "source", 108)
    labels = [hostile.CLASSES[index % len(hostile.CLASSES)] for index in range(108)]
    with open(tmp_path / "source" / "labels.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "label"), *zip(names, labels, strict=True)])
    images = os.fsencode(tmp_path / "images")
    os.mkdir(images)
    for name in hostile.FILES:
        shutil.copy(os.fsencode(tmp_path / "source" / "0.png"), os.path.join(images, name))
    with open(os.path.join(images, b"damaged\x1b[2J\n.png"), "wb") as file:
        file.write(b"\x1b[2J")

    workdir = f"{tmp_path}/run\x1b[31m\u202e"
    own = [f"--config.data.{split}_split={split}" for split in ("train", "validation", "test")]
    done = run(
        tmp_path,
        ["prepare", f"--source={tmp_path}/source/labels.csv", "--name=strange",
         f"--data_dir={tmp_path}/d", "--splits=train:70,validation:15,test:15"],
        ["train", "--config=tests/tiny.py:classification", f"--workdir={workdir}",
         "--config.data.dataset=strange", f"--config.data.data_dir={tmp_path}/d", *own,
         "--config.epochs=1", "--config.probes.map_images=16"],
        ["evaluate", f"--workdir={workdir}"],
        ["probe", f"--workdir={workdir}", "--probes=knn"],
        ["features", f"--workdir={workdir}", f"--images={tmp_path}/images", "--skip_bad_images",
         f"--out={tmp_path}/f.npz"],
        ["weights", "export", workdir, f"{tmp_path}/card"],
        ["predict", f"--workdir={workdir}", "--top=9", f"{tmp_path}/images"],
    )  # fmt: skip
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 2, err
    assert err.splitlines()[-1] == "ssljax-predict: 1 of 7 images cannot be read"
    assert not hostile.acting(out)
    assert not hostile.acting(re.sub(r"\r.*images/s\]|\r +\r|\r", "", err))  # progress bars
    assert r"\x1b]0;title\x07\x1b]8;;http://x\x1b\link" in out
    assert r"e\u202egpj.\u2066" in out
    assert r"run\x1b[31m\u202e" in err
    lines = [line for line in out.splitlines() if line.startswith(f"{tmp_path}/images/")]
    assert len(lines) == len(hostile.FILES)
    assert all(line.count("%") == 9 and len(line) < 9 * 250 for line in lines)
    assert rf"{tmp_path}/images/b\nssljax-predict: forged\r.png: " in out
    assert not re.search("(?m)^ssljax-predict: forged", out + err)
    assert r"damaged\x1b[2J\n.png cannot be read as an image" in err

    page = (pathlib.Path(workdir) / "report.html").read_text()
    found = Tags(page.replace(document.script(), ""))
    assert "script" not in found.tags
    assert not [name for name in found.attributes if name.startswith("on")]
    assert not hostile.acting(page)
    assert any(r"c\x1b[2J" in part for part in found.text)
    card = (tmp_path / "card" / "README.md").read_text()
    assert not hostile.acting(card)
    assert r"e\u202egpj.\u2066" in card
    with np.load(tmp_path / "f.npz") as features:
        files = {os.path.basename(os.fsencode(str(name))) for name in features["files"]}
    assert files == set(hostile.FILES)

    printed = run(tmp_path, ["predict", f"--workdir={workdir}", "--json", f"{tmp_path}/images"])
    assert printed.stdout.isascii()
    assert not hostile.acting(printed.stdout.decode())
    rows = [json.loads(line) for line in printed.stdout.splitlines()]
    assert {os.path.basename(os.fsencode(row["image"])) for row in rows} > set(hostile.FILES)
    assert {each["class"] for row in rows for each in row.get("classes", ())} <= set(
        hostile.CLASSES
    )


@pytest.mark.parametrize("name", ["a\x1b[31m\n\u202e", "x" * 2**16])
def test_a_study_with_a_hostile_arm_is_refused_in_one_harmless_line(tmp_path, name):
    (tmp_path / "config.py").write_text(
        "from ssljax import arm_config\nfrom ssljax.settings import config_files\n\n\n"
        "def get_config():\n"
        "    config = config_files.load('tests/tiny_study.py')\n"
        f"    config.arms[{name!r}] = arm_config()\n"
        "    return config\n"
    )
    done = run(tmp_path, ["study", f"--config={tmp_path}/config.py", f"--workdir={tmp_path}/s"])
    assert done.returncode == 2
    assert not hostile.acting(done.stderr.decode())
    [line] = done.stderr.decode().splitlines()
    assert line.startswith("ssljax-study: arms: ")
    assert len(line) <= 4000
    assert not done.stdout


@pytest.mark.parametrize(
    "program",
    [
        "raise ValueError(name)",
        "threading.Thread(target=int, args=[name]).start()",
        "exec('class X:\\n def __del__(self): raise ValueError(name)', globals()); X()",
        "warnings.warn(name)",
        "logging.getLogger('x').warning(name)",
        "raise InputError(name)",
        "raise OSError(5, 'x', name)",
        "show(name)",
        "say(name)",
    ],
)
def test_every_way_to_the_terminal_is_harmless(program):
    code = (
        "import logging, threading, warnings\n"
        "from ssljax.settings.command_process import run_command\n"
        "from ssljax.settings.errors import InputError\n"
        "from ssljax.settings.messages import say, show\n"
        f"name = {hostile.INVISIBLE!r}\n"
        f"def main():\n    {program}\n"
        "run_command('x', main)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True)
    said = (done.stdout + done.stderr).decode()
    assert not hostile.acting(said)
    assert r"\x1b[31m" in said
    assert r"\udcff" in said


@pytest.mark.parametrize("labels", [("a", "a "), (" ", "b"), ("a\nb", "c")])
def test_class_names_that_tfds_would_confuse_are_refused(tmp_path, labels):
    write_images(tmp_path / "images", 8)
    for index in range(8):
        folder = tmp_path / "s" / labels[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "images" / f"{index}.png", folder)
    with pytest.raises(InputError, match="class name"):
        prepare(str(tmp_path / "s"), "x", str(tmp_path / "d"))


def test_a_class_folder_that_is_not_utf8_is_named(tmp_path):
    write_images(tmp_path / "images", 8)
    source = os.fsencode(tmp_path / "s")
    for name in (b"a\xff", b"a\xfe"):
        os.makedirs(os.path.join(source, name))
        for index in range(4):
            shutil.copy(
                os.fsencode(tmp_path / "images" / f"{index}.png"),
                os.path.join(source, name, b"%d.png" % index),
            )
    with pytest.raises(InputError, match="is in a class whose name is not UTF-8"):
        prepare(str(tmp_path / "s"), "x", str(tmp_path / "d"))
