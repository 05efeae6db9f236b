"""Write the report: one self-contained HTML page on the views, for a person who opens no notebook.

Needs the extra ``fincon[notebooks]`` for its plots, which are drawn here, as SVG, without a network.
"""

import csv
import io
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

from fincon.transforms.money import minor_unit_digits
from fincon.warehouse import charts
from fincon.warehouse.checks import checks
from fincon.warehouse.read_only import ReadOnlyConnection

PAGE = Path(__file__).with_name("report.html")
ROWS_SHOWN = 12
"""How many rows of a table the page shows; where there are more it says so, and the CSV beside it has all."""


class Part(NamedTuple):
    """A part of the report: its heading, a line on it, a plot (query, chart) if it has one, and a table (query) if so."""

    heading: str
    about: str
    plot: tuple[str, Callable[[pd.DataFrame], alt.TopLevelMixin]] | None
    table: str | None


FIGURES = """
SELECT 'accounts linked' AS what, count(*) AS n FROM accounts
UNION ALL SELECT 'active now', count(*) FROM accounts WHERE status = 'active'
UNION ALL SELECT 'institutions', count(*) FROM institutions WHERE institution_name IS NOT NULL
UNION ALL SELECT 'balances over a day old', count(balance_as_of) FROM stale_balances
UNION ALL SELECT 'balances never read', count(*) FROM stale_balances WHERE balance_as_of IS NULL
UNION ALL SELECT 'to be linked again', count(*) FROM relink_needed
"""

RANKED = """
(SELECT currency, row_number() OVER (ORDER BY count(*) DESC, currency) AS place FROM balances GROUP BY currency)"""

HOLDINGS = f"""
SELECT currency, coalesce(category, 'not said') AS category, sum(current_amount)::DOUBLE AS amount
FROM balance_totals JOIN {RANKED} USING (currency) WHERE place <= 4
GROUP BY currency, category, place HAVING sum(current_amount) IS NOT NULL ORDER BY place, category"""

TOTALS = f"""
SELECT currency, category, sum(accounts)::BIGINT AS accounts, sum(current_amount)::DECIMAL(38, 3) AS current,
    sum(available_amount)::DECIMAL(38, 3) AS available, sum(used_amount)::DECIMAL(38, 3) AS used,
    sum(duplicate_current_amount)::DECIMAL(38, 3) AS linked_twice, sum(stale_current_amount)::DECIMAL(38, 3) AS stale,
    sum(unlinked_current_amount)::DECIMAL(38, 3) AS not_linked
FROM balance_totals JOIN {RANKED} USING (currency)
GROUP BY currency, category, place ORDER BY place, category"""

DAILY = f"""
SELECT day, currency, sum(current_amount)::DOUBLE AS amount
FROM balance_daily JOIN accounts USING (stripe_account, account_id) JOIN {RANKED} USING (currency)
WHERE place <= 4 AND category = 'cash'
GROUP BY day, currency, place ORDER BY place, day"""

AGES = """
SELECT CASE
        WHEN balance_as_of IS NULL THEN 'never'
        WHEN balance_as_of > now() - INTERVAL 6 HOUR THEN 'under 6 hours'
        WHEN balance_as_of > now() - INTERVAL 1 DAY THEN 'under a day'
        WHEN balance_as_of > now() - INTERVAL 7 DAY THEN 'under a week'
        ELSE 'a week or more'
    END AS age, coalesce(r.status, 'no attempt') AS last_refresh, count(*) AS accounts
FROM accounts AS a LEFT JOIN (FROM refreshes WHERE feature = 'balance') AS r USING (stripe_account, account_id)
WHERE a.status = 'active' AND list_contains(a.permissions, 'balances') GROUP BY ALL"""

FAILURES = """
SELECT coalesce(institution_name, 'not said') AS institution, feature, max(share_failed)::DOUBLE AS share_failed,
    sum(accounts)::BIGINT AS accounts
FROM refresh_health GROUP BY ALL ORDER BY ALL"""

FUNNEL = """
WITH steps AS (
    SELECT sum(sessions)::BIGINT AS a, sum(sessions_with_accounts)::BIGINT AS b, sum(sessions_with_active_accounts)::BIGINT AS c
    FROM session_conversion
)
SELECT unnest(['sessions begun', 'with a linked account', 'with one active now']) AS name,
    unnest([a, b, c]) AS count, unnest([a, b, c]) / a AS share
FROM steps WHERE a > 0"""

RELINK = """
SELECT institution_name AS institution, count(*) FILTER (status = 'inactive') AS inactive_now,
    count(*) FILTER (status = 'active') AS will_end, min(works_until) FILTER (works_until >= now()) AS next_to_end
FROM relink_needed GROUP BY ALL ORDER BY inactive_now + will_end DESC, institution"""

LOW = """
SELECT currency, staleness, count(*) AS accounts, count(*) FILTER (available_amount < 0) AS overdrawn
FROM low_balance_risk GROUP BY ALL ORDER BY currency, min(hours_old)"""

UNKNOWN = """
SELECT table_name AS on_what, attribute, any_value(example_type) AS kind, sum(objects)::BIGINT AS objects,
    min(first_seen) AS since
FROM unknown_attributes GROUP BY ALL ORDER BY ALL LIMIT 20"""

RUNS = """
SELECT finished_at AS finished, mode, sessions_seen AS sessions, accounts_seen AS accounts, rows_added, requests, rejected
FROM runs ORDER BY runs.finished_at DESC"""


def _funnel(frame: pd.DataFrame) -> alt.TopLevelMixin:
    subtitle = "Sessions, and what became of them"
    return charts.counts(frame, "From sessions to active accounts", subtitle, "Sessions", list(frame["name"]))


PARTS = (
    Part(
        "What is held and owed",
        "Current balances of live accounts, in major units; negative is owed. What is stale or not linked any more"
        " stands apart. The plot has the four most frequent currencies, the table all.",
        (HOLDINGS, charts.holdings),
        TOTALS,
    ),
    Part(
        "Day by day",
        "What accounts of the category cash held at the end of each day (UTC); a day without a new balance has the last one."
        " The last day is not over.",
        (DAILY, charts.daily),
        None,
    ),
    Part(
        "How fresh it is",
        "Age of the balances of active accounts that permit them.",
        (AGES, charts.ages),
        None,
    ),
    Part(
        "Where refreshes fail",
        "Outcome of each account's last attempt, and of how many accounts.",
        (FAILURES, charts.failures),
        None,
    ),
    Part(
        "Linking",
        "Sessions known here, whether they linked an account, and whether one still works.",
        (FUNNEL, _funnel),
        None,
    ),
    Part(
        "To be linked again",
        "Accounts that cannot be read any more, or will end unless their holder links them again.",
        None,
        RELINK,
    ),
    Part(
        "Low balances",
        "Active accounts of the category cash with less than 100 available, in the currency's major unit, by how old that is.",
        None,
        LOW,
    ),
    Part(
        "New at Stripe",
        "Attributes that arrive and this version of fincon does not know. They are kept in the column extra.",
        None,
        UNKNOWN,
    ),
    Part("Last runs", "What was fetched, and what it cost.", None, RUNS),
)


def page(views: ReadOnlyConnection) -> str:
    """Return the whole page as HTML. Every text in it is escaped, whoever wrote it."""
    environment = jinja2.Environment(autoescape=True)
    environment.filters["shown"] = _shown
    as_of, runs = views.execute(
        "SELECT max(observed_at), (SELECT count(*) FROM runs) FROM lake.accounts"
    ).fetchall()[0]
    modes = {mode for (mode,) in views.execute("SELECT DISTINCT livemode FROM accounts").fetchall()}
    found = {name: bool(views.execute(query).fetchall()) for name, _, query in checks()}
    return environment.from_string(PAGE.read_text(encoding="utf-8")).render(
        as_of=as_of,
        test_mode=False in modes,
        made=datetime.now(UTC),
        runs=runs,
        figures=views.execute(FIGURES).fetchall(),
        checks=len(found),
        failed=[name for name, is_wrong in found.items() if is_wrong],
        parts=[
            {
                "heading": part.heading,
                "about": part.about,
                "plot": part.plot and _plot(views, *part.plot, prefix=f"p{number}"),
                "table": part.table and _table(views.execute(part.table)),
            }
            for number, part in enumerate(PARTS)
        ],
    )


def svg(chart: alt.TopLevelMixin) -> str:
    """Return a chart as SVG; nothing is fetched to draw it."""
    drawn: str = vl_convert.vegalite_to_svg(chart.to_json(), allowed_base_urls=[])
    return drawn


def _plot(
    views: ReadOnlyConnection,
    query: str,
    draw: Callable[[pd.DataFrame], alt.TopLevelMixin],
    prefix: str,
) -> str:
    """Return the plot of what a query finds as SVG; empty where it finds nothing."""
    frame = views.execute(query).df()
    if frame.empty:
        return ""
    drawn = svg(draw(frame))
    for name in ("gradient", "clip"):  # ids, which must differ within a page
        drawn = drawn.replace(f'id="{name}', f'id="{prefix}{name}').replace(
            f"url(#{name}", f"url(#{prefix}{name}"
        )
    return drawn


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
    """Give an amount the decimals of its currency; it has no others."""
    digits = minor_unit_digits(currency or "")
    if not isinstance(value, Decimal) or digits is None:
        return value
    return Decimal(f"{value:.{digits}f}")  # quantize would be limited to 28 digits


def _shown(value: Any) -> str:
    """Write a value for people: thousands apart, decimals digit for digit, times to the minute."""
    if value is None:
        return "·"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"
    return f"{value:,}" if isinstance(value, int | Decimal) else str(value)
