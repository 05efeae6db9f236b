"""Write the report: one self-contained HTML page on the views, for a person who opens no notebook.

Needs the extra ``fincon[notebooks]`` for its plots, which are drawn here, as SVG, without a network.
"""

import csv
import io
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import altair as alt
import jinja2
import pandas as pd
import vl_convert

from fincon.lake.version_sql import SQL
from fincon.transforms.money import minor_unit_digits
from fincon.warehouse import chart_axes, charts
from fincon.warehouse.checks import checks
from fincon.warehouse.read_only import ReadOnlyConnection

WORD = 20
"""How many characters a word may have that is never broken."""

PAGE = Path(__file__).with_name("report.html")
MARK = re.compile(r'<path((?: (?!aria-label)[\w-]+="[^"]*")*) aria-label=("([^"]*)")([^>]*?)/>')
"""A mark of a plot in SVG, which tells what it shows to who does not see it."""

ROWS_SHOWN = 12
"""How many rows of a table the page shows; where there are more it says so, and the CSV beside it has all."""


CURRENCIES = "currencies_by_use"
"""What queries of the report call the order of currencies."""

WIDE, NARROW = 900, chart_axes.NARROW - 50
"""How wide each plot is drawn, in pixels: for a desk and for paper, where it is scaled; and for a phone."""

Draw = Callable[[pd.DataFrame, int], alt.TopLevelMixin]


class Part(NamedTuple):
    """A part of the report: its heading, a line on it, the name and drawing of its plot if any, the names of its tables.

    A name is that of a query in ``sql/report``; a table may have a line of its own above it.
    """

    heading: str
    about: str
    plot: tuple[str, Draw] | None
    tables: tuple[tuple[str, str], ...] = ()


def _funnel(frame: pd.DataFrame, width: int) -> alt.TopLevelMixin:
    title = ("From sessions to active accounts", "Sessions, and what became of them")
    return charts.counts(frame, title, "Sessions", list(frame["name"]), width)


PARTS = (
    Part(
        "What is held and owed",
        "Current balances of live accounts, in major units; blue is held, red is owed. The plots have the four most"
        " frequent currencies, the table all.",
        ("holdings", charts.holdings),
        (
            ("totals", ""),
            (
                "apart",
                "Of these, bank accounts that were linked twice; and what is not in the sums: stale or not linked any more.",
            ),
        ),
    ),
    Part(
        "Day by day",
        "What accounts of the category cash held at the end of each day (UTC); a day without a new balance has the last one."
        " The last day is not over. Axes do not begin at zero.",
        ("daily", charts.daily),
    ),
    Part(
        "Against the week before",
        "Live accounts of which a balance of a week ago is known, then and now.",
        None,
        (("change", ""),),
    ),
    Part(
        "Who holds most",
        "The three largest holders in each of the four most frequent currencies; the CSV has all.",
        None,
        (("holders", ""),),
    ),
    Part(
        "How fresh it is",
        "Age of the balances of active accounts that permit them.",
        ("ages", charts.ages),
    ),
    Part(
        "Where refreshes fail",
        "Outcome of each account's last attempt: the share that failed. The plot has the twelve institutions of most"
        " accounts, the table all.",
        ("failures", charts.failures),
        (("refreshes", ""),),
    ),
    Part(
        "When an institution had trouble",
        "Days on which more refreshes failed there than is usual, those without an end first: they are not over. Usual is"
        " the median of the four weeks before.",
        None,
        (("incidents", ""),),
    ),
    Part(
        "To be linked again",
        "Accounts that cannot be read any more, or will end unless their holder links them again; those that ended first.",
        None,
        (("relinks", ""),),
    ),
    Part(
        "Linking",
        "Sessions known here, whether they linked an account, and whether one still works.",
        ("funnel", _funnel),
    ),
    Part(
        "What came in and went out",
        "Posted transactions by month (UTC): blue came in, red went out. The last month is not over.",
        ("flows", charts.flows),
        (
            ("months", ""),
            ("income", "Payees that pay an account at a steady pace, those most certain first:"),
        ),
    ),
    Part(
        "Low balances",
        "Active accounts of the category cash with less than 100 available, in the currency's major unit, by how old that is.",
        None,
        (("low", ""),),
    ),
    Part(
        "Owners shared",
        "Email addresses, phone numbers, or names with an address, that owners of several accounts share:"
        " shared_owners names them.",
        None,
        (("shared", ""),),
    ),
    Part(
        "New at Stripe",
        "Attributes that arrive and this version of fincon does not know. They are kept in the column extra.",
        None,
        (("unknown", ""),),
    ),
    Part("Last runs", "What was fetched, and what it cost.", None, (("runs", ""),)),
)


def query(name: str) -> str:
    """Return a query of ``sql/report``."""
    folder = SQL / "report"
    by_use = (folder / f"{CURRENCIES}.sql").read_text(encoding="utf-8")
    text = (folder / f"{name}.sql").read_text(encoding="utf-8")
    return text.replace(CURRENCIES, f"({by_use}) AS {CURRENCIES}")


def page(views: ReadOnlyConnection) -> str:
    """Return the whole page as HTML. Every text in it is escaped, whoever wrote it."""
    environment = jinja2.Environment(autoescape=True)
    environment.filters["shown"] = _shown
    environment.tests["long"] = _is_long
    as_of, runs = views.execute(query("seen")).fetchall()[0]
    modes = {mode for (mode,) in views.execute("SELECT DISTINCT livemode FROM accounts").fetchall()}
    found = {name: bool(views.execute(wrong).fetchall()) for name, _, wrong in checks()}
    return environment.from_string(PAGE.read_text(encoding="utf-8")).render(
        as_of=as_of,
        test_mode=False in modes,
        made=datetime.now(UTC),
        runs=runs,
        figures=views.execute(query("figures")).fetchall(),
        checks=len(found),
        failed=[name for name, is_wrong in found.items() if is_wrong],
        parts=[
            {
                "heading": part.heading,
                "about": part.about,
                "plots": part.plot and _plots(views, *part.plot, prefix=f"p{number}"),
                "tables": [
                    {"name": name, "about": about, **_table(views.execute(query(name)))}
                    for name, about in part.tables
                ],
            }
            for number, part in enumerate(PARTS)
        ],
    )


def svg(chart: alt.TopLevelMixin) -> str:
    """Return a chart as SVG; nothing is fetched to draw it."""
    drawn: str = vl_convert.vegalite_to_svg(chart.to_json(), allowed_base_urls=[])
    return drawn


def _plots(views: ReadOnlyConnection, name: str, draw: Draw, prefix: str) -> list[dict[str, str]]:
    """Return the plots of what a query finds, one for each currency where it has several: each wide and narrow."""
    frame = views.execute(query(name)).df()
    frames = [frame] if len(frame) else []
    if "currency" in frame:
        frames = [frame[frame["currency"] == currency] for currency in frame["currency"].drop_duplicates()]
    return [
        {
            size: _for_page(draw(one, width), f"{prefix}{size}{number}")
            for size, width in (("wide", WIDE), ("narrow", NARROW))
        }
        for number, one in enumerate(frames)
    ]


def _for_page(chart: alt.TopLevelMixin, prefix: str) -> str:
    """Draw a chart under the page's own heading and on its own ground, each mark with a tooltip that tells its value."""
    described = chart.to_dict()
    del described["title"]
    described["config"]["background"] = "transparent"
    drawn: str = vl_convert.vegalite_to_svg(described, allowed_base_urls=[])
    for name in ("gradient", "clip"):  # ids, which must differ within a page
        drawn = drawn.replace(f'id="{name}', f'id="{prefix}{name}').replace(
            f"url(#{name}", f"url(#{prefix}{name}"
        )
    return MARK.sub(r"<path\1 aria-label=\2\4><title>\3</title></path>", drawn)


def _table(result: ReadOnlyConnection) -> dict[str, Any]:
    """Return the first rows of a result, of how many, all as CSV, and its columns as (name for people, whether numbers)."""
    names = [name for name, *_ in result.description or ()]
    rows = result.fetchall()
    if "currency" in names:
        place = names.index("currency")
        rows = [tuple(_rounded(value, row[place]) for value in row) for row in rows]
    columns = [
        (str(name).replace("_", " "), all(isinstance(row[place], int | Decimal | None) for row in rows))
        for place, name in enumerate(names)
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([names, *rows])
    return {
        "columns": columns,
        "rows": rows[:ROWS_SHOWN],
        "total": len(rows),
        "csv": "data:text/csv;charset=utf-8," + quote(text.getvalue()),
    }


def _rounded(value: Any, currency: str | None) -> Any:
    """Give an amount the decimals of its currency; it has no others. What has not three of them is none (a percentage)."""
    digits = minor_unit_digits(currency or "")
    if not isinstance(value, Decimal) or value.as_tuple().exponent != -3 or digits is None:
        return value
    return Decimal(f"{value:.{digits}f}")  # quantize would be limited to 28 digits


def _is_long(value: Any) -> bool:
    """Return whether a text has a word that may be broken, for no column has room for it."""
    return isinstance(value, str) and max(map(len, value.split()), default=0) > WORD


def _shown(value: Any) -> str:
    """Write a value for people: thousands apart, decimals digit for digit, times to the minute."""
    if value is None:
        return "·"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"
    return f"{value:,}" if isinstance(value, int | Decimal) else str(value)
