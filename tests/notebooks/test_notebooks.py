"""The notebooks as they stand in the repository; ``test_desk`` runs them."""

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert code
    assert {(len(cell["outputs"]), cell["execution_count"]) for cell in code} == {(0, None)}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_line_of_code_is_not_cut_where_a_notebook_is_shown(path: Path) -> None:
    """JupyterLab at 1280 px and a page of HTML at 1000 px have room for so many characters."""
    lines = [line for cell in cells(path) if cell["cell_type"] == "code" for line in cell["source"]]
    assert [line for line in lines if len(line.rstrip("\n")) > 107] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_reads_the_views_and_its_plots_need_no_network(path: Path) -> None:
    source = "\n".join("".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "code")
    assert "from fincon import connect" in source
    assert ("import altair" in source) == ('alt.renderers.enable("svg")' in source)
    assert "read_parquet" not in source
