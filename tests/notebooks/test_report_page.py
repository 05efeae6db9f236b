"""The report in a browser: in each state, at each width, in the dark and on paper, nothing is cut off and nothing collides."""

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from fincon.warehouse import report
from fincon.warehouse.connection import connect
from tests.notebooks.states import STATES
from tests.warehouse.test_views import publish_rows

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
LETTER, A4 = 711, 688
"""How many pixels the page is wide on paper, within its margins of 14 mm."""

MEASURE = """
<script>
const wrong = [], shown = e => e.getClientRects().length > 0, text = e => e.textContent.trim().slice(0, 60);
if (document.documentElement.scrollWidth > innerWidth) wrong.push(`the page is ${document.documentElement.scrollWidth} wide`);
const page = document.body.getBoundingClientRect();
for (const e of document.querySelectorAll("body *:not(svg *)")) {
  if (!shown(e)) continue;
  if (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline" && e.clientWidth)
    wrong.push(`${e.tagName} "${text(e)}" is ${e.scrollWidth} wide in ${e.clientWidth}`);
  if (e.getBoundingClientRect().right > page.right + 1) wrong.push(`${e.tagName} "${text(e)}" sticks out`);
}
for (const svg of document.querySelectorAll("svg")) {
  if (!shown(svg)) continue;
  const box = svg.getBoundingClientRect();
  for (const t of svg.querySelectorAll("text")) {
    const r = t.getBoundingClientRect();
    if (t.getAttribute("opacity") === "0" || !t.textContent.trim()) continue;
    if (r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 1 || r.bottom > box.bottom + 1)
      wrong.push(`"${text(t)}" is outside of its plot`);
  }
  for (const group of svg.querySelectorAll(".role-axis-label, .role-legend-label")) {
    const ticks = [...group.querySelectorAll("text")].filter(t => t.getAttribute("opacity") !== "0" && t.textContent.trim());
    const said = ticks.map(text).filter(one => !one.includes("…"));
    if (new Set(said).size < said.length) wrong.push(`an axis says one thing twice: ${said}`);
    const boxes = ticks.map(t => t.getBoundingClientRect());
    boxes.forEach((a, i) => boxes.slice(i + 1).forEach(b => {
      const apart = a.left >= b.right || b.left >= a.right || a.top + 3 >= b.bottom || b.top + 3 >= a.bottom;
      if (!apart) wrong.push(`ticks collide: ${said}`);
    }));
  }
  const marks = [...svg.querySelectorAll("path[aria-label][role=graphics-symbol]")];
  if (!marks.length || marks.some(m => !m.querySelector("title"))) wrong.push("a mark has no tooltip");
}
const found = document.createElement("pre");
found.id = "found"; found.textContent = JSON.stringify(wrong); document.body.append(found);
</script>"""
"""What a browser measures: it writes what it finds wrong into the page."""


@pytest.fixture(scope="module", params=STATES)
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a state."""
    data = tmp_path_factory.mktemp(request.param) / "data"
    publish_rows(data, STATES[request.param](), datetime.now(UTC))
    with connect(data) as views:
        return report.page(views)


def wrong_in(page: str, width: int, folder: Path, *, on_paper: bool = False, dark: bool = False) -> list[Any]:
    """What a browser finds wrong with a page; on paper, by the rules that it has for paper."""
    assert CHROMIUM
    measured = re.sub(r"<meta http-equiv[^>]*>", "", page).replace("</body>", f"{MEASURE}</body>")
    if on_paper:
        measured = measured.replace("@media print", "@media all").replace(
            "@media screen and", "@media not all and"
        )
    if dark:
        measured = measured.replace("screen and (prefers-color-scheme: dark)", "all")
    file = folder / "page.html"
    file.write_text(measured, encoding="utf-8")
    dumped = subprocess.run(
        [
            CHROMIUM,
            *OPTIONS,
            f"--user-data-dir={folder}/browser",
            f"--window-size={max(width, 500)},2000",
            "--dump-dom",
            _framed(file, width),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    found = re.search(r'<pre id="found">(.*?)</pre>', dumped, re.DOTALL)
    assert found, dumped[-500:]
    wrong: list[Any] = json.loads(unescape(found[1]))
    return wrong


def _framed(file: Path, width: int) -> str:
    """The page's address; of one narrower than a browser's window may be, a frame of that width around it."""
    if width >= 500:
        return f"file://{file}"
    frame = file.with_name("frame.html")
    frame.write_text(
        f'<iframe width={width} height=2000 srcdoc="{file.read_text().replace("&", "&amp;").replace(chr(34), "&quot;")}"'
        " style='border:0'></iframe><script>onload = () => {"
        "document.body.append(document.querySelector('iframe').contentDocument.querySelector('#found').cloneNode(true))}</script>"
    )
    return f"file://{frame}"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [1280, 768, 390])
@pytest.mark.first(0, 8)
def test_nothing_is_cut_off_and_nothing_collides(page: str, width: int, tmp_path: Path) -> None:
    assert wrong_in(page, width, tmp_path) == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [LETTER, A4])
def test_on_paper_nothing_is_cut_off_and_nothing_scrolls(page: str, width: int, tmp_path: Path) -> None:
    assert wrong_in(page, width, tmp_path, on_paper=True) == []
    assert "overflow-x" not in page


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    """The measuring finds what it looks for: it could not find nothing in every state otherwise."""
    plot = (
        '<svg width="90" height="20"><g class="role-axis-label"><text x="0" y="15">0.2</text><text x="5" y="15">0.2</text>'
        '</g><text x="80" y="15">beyond</text><path role="graphics-symbol" aria-label="1" d="M0,0h9"/></svg>'
    )
    found = wrong_in(f"<body><p style='width:9px'>1,234,567.89</p>{plot}</body>", 1280, tmp_path)
    assert {one.partition(" ")[0] for one in found} >= {"P", "an", "ticks", '"beyond"', "a"}


def test_every_query_of_the_report_is_shown_and_runs() -> None:
    files = {path.stem for path in (report.SQL / "report").glob("*.sql")}
    shown = {part.plot[0] for part in report.PARTS if part.plot} | {
        n for part in report.PARTS for n, _ in part.tables
    }
    assert files == shown | {"figures", "seen", report.CURRENCIES}
