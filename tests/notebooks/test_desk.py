"""The analyst's desk on the demo's lake: questions that answer, notebooks that run, a report that a browser shows."""

import os
import re
import shutil
import struct
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import altair as alt
import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from fincon.sandbox.server import running
from fincon.sandbox.world import World
from fincon.warehouse import chart_axes, report
from fincon.warehouse.connection import connect
from tests.conftest import fincon, sync
from tests.warehouse.test_views import publish_rows

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
QUESTIONS = sorted(path.stem for path in (ROOT / "sql" / "questions").glob("*.sql"))
QUESTIONS.remove("duplicate_accounts")  # the sandbox links no bank account twice
QUESTIONS.remove("institution_incidents")  # nothing is unusual in it
QUESTIONS.remove("debit_risk")  # which asks for an amount
QUESTIONS.remove("links_ending")  # nor does its default world end an authorization
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``fincon demo`` leaves behind."""
    data = tmp_path_factory.mktemp("demo") / "data"
    done = fincon("--data", str(data), "demo", cwd=data.parent)
    assert done.returncode == 0, done.stderr
    return data


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three accounts, synced once."""
    data = tmp_path_factory.mktemp("small") / "data"
    with running(World(seed=1, accounts=3, sessions=1)) as sandbox:
        sync(sandbox.url, data)
    return data


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of nothing."""
    data = tmp_path_factory.mktemp("empty") / "data"
    publish_rows(data, {}, datetime.now(UTC))
    return data


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_has_an_answer_worth_reading(demo: Path, question: str) -> None:
    with connect(demo) as connection:
        assert len(connection.execute(f"FROM {question}").fetchall()) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("lake", ["demo", pytest.param("small", marks=pytest.mark.minutes), "empty"])
def test_every_notebook_runs_top_to_bottom_draws_its_plots_and_says_nothing_else(
    lake: str, path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On the demo's lake, on one of three accounts, and on one without any."""
    monkeypatch.setenv("FINCON_DATA", str(request.getfixturevalue(lake)))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(path.parent)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    drawn = [output for cell in cells for output in cell.outputs if "image/svg+xml" in output.get("data", {})]
    assert len(drawn) == sum("charts." in cell.source for cell in cells)
    stray = [
        output
        for cell in cells
        for output in cell.outputs
        if output.output_type == "stream" and (output.name == "stderr" or "print(" not in cell.source)
    ]
    assert stray == []


def test_the_report_stands_alone_and_a_browser_shows_it_wide_and_narrow(demo: Path, tmp_path: Path) -> None:
    done = fincon("--data", str(demo), "report", "--output", "r.html", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "r.html\n"), done.stderr
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert not re.search(r"""<script|<link|<iframe|src=|href="(?!data:text/csv)|url\((?!#)|@import""", page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    for width in (1100, 500):
        shot = tmp_path / f"{width}.png"
        options = (
            "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
            f" --disable-component-update --disable-sync --user-data-dir={tmp_path}/browser"
        ).split()
        shown = subprocess.run(
            [
                CHROMIUM,
                *options,
                f"--window-size={width},2000",
                f"--screenshot={shot}",
                f"file://{tmp_path}/r.html",
            ],
            capture_output=True,
            timeout=120,
            check=True,
        )
        assert struct.unpack(">II", shot.read_bytes()[16:24]) == (width, 2000), shown.stderr
        assert shot.stat().st_size > 30_000, "a page of one colour is smaller"
    dumped = subprocess.run(
        [CHROMIUM, *options, "--dump-dom", f"file://{tmp_path}/r.html"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert (
        dumped.count("<svg") == page.count("<svg") >= 2 * sum(part.plot is not None for part in report.PARTS)
    )
    assert "checks of the data hold" in dumped


def test_the_report_of_nothing_and_of_hostile_names_is_a_page_too(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    accounts = [
        {"account_id": "fca_1", "status": "inactive", "institution_name": hostile, "category": hostile},
    ]
    balances = [{"account_id": "fca_1", "currency": "usd", "current": 9223372036854775807}]
    refreshes = [{"account_id": "fca_1", "feature": "balance", "status": "failed"}]
    given = {"accounts": accounts, "balances": balances, "refreshes": refreshes}
    for data, rows in ((tmp_path / "empty", {}), (tmp_path / "hostile", given)):
        publish_rows(data, rows, datetime.now(UTC))
        with connect(data) as views:
            page = report.page(views)
        assert hostile not in page
    assert "&lt;script&gt;" in page
    assert "92,233,720,368,547,758.07<" in page


def test_the_report_says_what_it_cuts_and_what_it_does_not_know(tmp_path: Path) -> None:
    """A table that is cut says of how many rows it shows some, and its CSV has all; nothing synced is said in words."""
    accounts = [
        {"account_id": f"fca_{n}", "status": "inactive", "institution_name": f"Bank {n}", "livemode": False}
        for n in range(44)
    ]
    never = {"account_id": "fca_never", "status": "active", "permissions": ["balances"], "livemode": False}
    pages = {}
    for name, rows in (("none", {}), ("many", {"accounts": [*accounts, never]})):
        publish_rows(tmp_path / name, rows, datetime.now(UTC))
        with connect(tmp_path / name) as views:
            pages[name] = report.page(views)
    assert "12 of 44 rows" in pages["many"]
    found = re.search(r'relinks.csv" href="data:text/csv;charset=utf-8,([^"]+)"', pages["many"])
    assert found is not None
    assert len(unquote(found[1]).splitlines()) == 45
    assert "<b>0</b>balances over a day old" in pages["many"]
    assert "<b>1</b>balances never read" in pages["many"]
    assert "Test mode" in pages["many"]
    assert "No account is known yet." in pages["none"]
    assert "Test mode" not in pages["none"]


@pytest.mark.parametrize(
    ("currency", "value", "shown"),
    [("usd", 0.6, "0.60"), ("usd", 1200, "1.2 k"), ("usd", -3_400_000, "\N{MINUS SIGN}3.4 M"), ("usd", 1.9e9, "1.9 bn"),
     ("kwd", 0.5, "0.500"), ("jpy", 0, "0"), ("jpy", 40, "40")],
)  # fmt: skip
def test_a_tick_is_written_as_a_person_would(currency: str, value: float, shown: str) -> None:
    frame = pd.DataFrame([{"amount": value}])
    axis = alt.Axis(labelExpr=chart_axes.as_written(currency), values=[value])
    drawn = report.svg(alt.Chart(frame).mark_point().encode(x=alt.X("amount:Q", axis=axis)))
    assert f">{shown}</text>" in drawn


def test_the_report_says_what_to_install_where_its_plots_cannot_be_drawn(tmp_path: Path) -> None:
    (tmp_path / "altair.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'altair'\", name='altair')"
    )
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = fincon("report", cwd=tmp_path, env=env)
    assert (done.returncode, "pip install 'fincon[notebooks]'" in done.stderr) == (2, True)
