"""The notebook `docs/tour.ipynb`, executed with fewer images and epochs."""

from __future__ import annotations

import json
import re

import pytest

from tests.conftest import REPOSITORY

NOTEBOOK = REPOSITORY / "docs/tour.ipynb"
SHORTER = {"images[:3000]": "images[:300]", "epochs=10": "epochs=1", "width=0.125": "width=0.03125"}


def outputs(cells):
    return [output for cell in cells for output in cell.get("outputs", [])]


def test_the_notebook_runs(tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    text = NOTEBOOK.read_text()
    for long, short in SHORTER.items():
        assert long in text
        text = text.replace(long, short)
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # raises if a cell does
    assert (tmp_path / "tour/rotation/config.json").exists()
    printed = "".join(output.get("text", "") for output in outputs(notebook.cells))
    assert len(re.findall(r"(?m)^\w+ +\d+ numbers  \d+\.\d%$", printed)) == 4
    assert outputs(notebook.cells)[-1]["data"]["image/png"]


@pytest.mark.quick
def test_the_kept_outputs_are_short_and_complete():
    text = NOTEBOOK.read_text()
    assert len(text) < 100_000
    assert "Traceback" not in text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert "image/png" in outputs(cells)[-1]["data"]
    assert "home" not in "".join(str(output.get("text", "")) for output in outputs(cells))
