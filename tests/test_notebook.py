"""The example notebook runs from top to bottom on a real, tiny sweep."""

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.paths import ROOT

NOTEBOOK = ROOT / "notebooks/example.ipynb"


@pytest.mark.assets
def test_the_notebook_runs_from_top_to_bottom(real_sweep, monkeypatch):
    monkeypatch.setenv("RAYCIFAR_SWEEP", str(real_sweep))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert "of 40 test images" in str(outputs)
    assert outputs[-1]["data"]["text/plain"] == "(2, 2)"


def test_the_notebook_is_kept_without_outputs():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
