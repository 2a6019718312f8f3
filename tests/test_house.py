"""The structure of the package: rooms, their order, names and sizes."""

from __future__ import annotations

import ast
import pathlib
import re
import subprocess

import pytest

from ssljax.__main__ import COMMANDS
from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "ssljax"
# From the bottom to the top; a room imports from rooms before it and from itself.
ROOMS = (
    "settings", "files", "data", "views", "models", "methods", "devices", "runs", "probes",
    "training", "studies", "report", "roofline",
)  # fmt: skip
COMMAND = len(ROOMS)

pytestmark = pytest.mark.quick


def tracked(*patterns: str) -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", *patterns], cwd=REPOSITORY, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout.split()


def sources() -> list[pathlib.Path]:
    return [REPOSITORY / name for name in tracked("ssljax/*.py")]


def floor(parts: tuple[str, ...]) -> int:
    return ROOMS.index(parts[0]) if parts and parts[0] in ROOMS else COMMAND


def imports(path: pathlib.Path) -> list[tuple[str, ...]]:
    """The modules of the package that a file imports, also inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ssljax":
            base = node.module.split(".")[1:]
            found += [(*base, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found += [tuple(name[1:]) for name in names if name[0] == "ssljax" and name[1:]]
    return found


def test_no_import_points_upwards():
    for path in sources():
        own = path.relative_to(PACKAGE).parts
        if len(own) == 1:
            continue
        assert own[0] in ROOMS, f"{path}: a room that is not in the list"
        for module in imports(path):
            assert floor(module) <= floor(own), f"{path} imports {'.'.join(module)}"


def test_commands_are_at_the_top_and_nothing_else_is():
    top = {path.stem for path in sources() if path.parent == PACKAGE}
    assert top == {"__init__", "__main__", *COMMANDS}
    for path in sources():
        has_cli = "\ndef cli()" in path.read_text()
        assert has_cli == (path.parent == PACKAGE and path.stem in COMMANDS), path


def test_nothing_lies_at_the_top_that_does_not_belong_there():
    folders = {name.split("/")[0] for name in tracked() if "/" in name}
    assert folders == {".ci", "benchmarks", "configs", "docs", "launch", "ssljax", "tests"}


def test_files_are_short_and_their_names_say_something():
    for name in tracked("ssljax/*.py", "configs/*.py", "benchmarks/*.py"):
        lines = (REPOSITORY / name).read_text().count("\n")
        assert lines <= 400, f"{name} has {lines} lines"
        assert not re.search(r"(^|/)(utils?|common|helpers?|misc)(\.py|/)", name), name


def test_the_words_of_the_project():
    for path in sources():
        text = path.read_text()
        assert not re.search("picture", text, re.IGNORECASE), path
        if "data/sets" not in str(path):
            assert not re.search("slides", text, re.IGNORECASE), path


def test_names_from_strangers_have_one_way_out():
    for path in sources():
        text = path.read_text()
        printing = re.search(r"(?<![\w.\'])print\(|std(out|err)\.write", text)
        assert not printing or path.name == "messages.py", f"{path}: use show() or say()"
        assert "html.escape" not in text or path.name == "document.py", f"{path}: use text()"


def test_the_loop_is_short():
    text = (PACKAGE / "training/loop.py").read_text()
    loop = next(node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.While))
    assert loop.end_lineno - loop.lineno < 60
