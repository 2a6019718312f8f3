"""What the docs show is what runs."""

from __future__ import annotations

import importlib
import re

import pytest

from ssljax.methods import METHODS, method_defaults
from ssljax.runs.metrics_log import read_metrics
from ssljax.training.loop import train
from ssljax.views import recipes
from tests.conftest import REPOSITORY
from tests.test_house import tracked

pytestmark = pytest.mark.quick


@pytest.mark.seconds
def test_the_method_that_the_docs_add_can_be_trained(make_config, tmp_path, monkeypatch):
    text = (REPOSITORY / "docs/methods.md").read_text()
    code = re.search(r"`ssljax/methods/(\w+).py`:\n\n```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "method_of_the_docs.py").write_text(code[2])
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("method_of_the_docs")
    monkeypatch.setitem(METHODS, "example", getattr(module, code[1].capitalize()))
    config = make_config("jigsaw,small_net").copy_and_resolve_references().unlock()
    config.method = method_defaults("example")
    config.method.all_turns = False
    config.epochs = config.validate_every_epochs = 20
    config.optimizer.learning_rate = 1e-2
    train(config, tmp_path / "run")
    rows = [row for row in read_metrics(tmp_path / "run") if row["kind"] == "validation"]
    assert rows[-1]["accuracy"] > 0.4  # chance is 0.25


def test_links_between_the_docs_lead_somewhere():
    for name in tracked("*.md"):
        page = REPOSITORY / name
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{name}: {link}"


def test_every_method_has_a_row_in_the_docs():
    text = (REPOSITORY / "docs/methods.md").read_text()
    for name in METHODS:
        assert f"| `{name}` |" in text or name in ("follow", "example")


def test_the_table_of_recipes_is_that_of_the_code():
    text = (REPOSITORY / "docs/views.md").read_text()
    table = text[text.index("| recipe |") : text.index("All flip with")]
    for name in recipes.NAMES:
        assert f"`{name}`" in table
        for group in recipes.recipe(name).values():
            for view in group.views:
                share = f"| {view.crop[0]}–{view.crop[1]:g} |" if view.crop else "the centre square"
                assert share in table
                if any(view.colour):
                    assert ", ".join(map(str, view.colour)) in table
                assert view.flip == (0.5 if name != "ijepa" else 0)
