"""The wheel, as a user installs it."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import zipfile

import pytest

from tests.conftest import REPOSITORY

USERS_FILE = """\
import ssljax

model = ssljax.load_run("run")
reveal_type(model.classify("image.jpg"))
reveal_type(ssljax.evaluate("run"))
ssljax.load_run(3)
ssljax.lode_run("run")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling")
    pytest.importorskip("hatch_fancy_pypi_readme")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=REPOSITORY,
        check=True,
    )
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        yield wheel


def test_the_wheel_has_all_that_is_needed(wheel):
    names = set(wheel.namelist())
    assert {
        "ssljax/py.typed",
        "ssljax/configs/quickstart.py",
        "ssljax/report/feature_map.js",
        "ssljax/configs/recipes/puzzles.py",
        "ssljax/report/style.css",
        "ssljax/data/sets/fashion_mnist_10k/t10k-images-idx3-ubyte.gz",
    } <= names
    assert not any(name.startswith("tests/") for name in names)


def test_the_description_on_a_package_index_has_no_dead_links(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    metadata = email.message_from_bytes(wheel.read(name))
    text = metadata.get_payload(decode=True).decode()
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "## Quick start" in text
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert all(link.startswith("https://") for link in links), links
    for url in metadata.get_all("Project-URL", []):
        assert "https://" in url


def test_a_users_file_is_checked_against_the_types(wheel, tmp_path):
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    wheel.extractall(site)
    (tmp_path / "users_file.py").write_text(USERS_FILE)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", environment / "bin/python",
         "--cache-dir", tmp_path / "cache", "users_file.py"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    said = [line.split(":", 1)[1] for line in done.stdout.splitlines() if line[0] == "u"]
    revealed, returned, argument, attribute = said
    assert 'Revealed type is "list[list[tuple[str, float]]]"' in revealed.replace("builtins.", "")
    assert 'Revealed type is "dict[str, Any]"' in returned.replace("builtins.", "")
    assert "6: error: Argument 1" in argument
    assert '7: error: Module has no attribute "lode_run"' in attribute
