"""The report: one self-contained HTML page on the views, for a person who opens no notebook.

Needs the extra ``fincon[notebooks]`` for its plots, which are drawn here, as SVG, without a network.
"""

import html
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import altair as alt
import duckdb
import pandas as pd
import vl_convert

from fincon.warehouse import charts
from fincon.warehouse.checks import checks

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Linked bank accounts</title>
<style>
:root {{ color: #1d2530; font: 15px/1.5 "DejaVu Sans", Helvetica, Arial, sans-serif; }}
body {{ margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; }}
h1 {{ font-size: 1.7rem; margin: 0; }} h2 {{ font-size: 1.2rem; margin: 2.5rem 0 .3rem; }}
p {{ margin: .3rem 0 .8rem; color: #4a5563; max-width: 48rem; }}
.figures {{ display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; padding: 0; list-style: none; }}
.figures li {{ border: 1px solid #d9dee5; border-radius: .5rem; padding: .6rem 1rem; flex: 1 1 8rem; color: #4a5563; }}
.figures b {{ display: block; font-size: 1.5rem; color: #1d2530; }}
.wide {{ overflow-x: auto; margin: .6rem 0 1.2rem; }}
.wide svg {{ display: block; max-width: 100%; height: auto; min-width: 32rem; }}
table {{ border-collapse: collapse; font-size: .88rem; }}
th, td {{ padding: .3rem .8rem; border-bottom: 1px solid #e3e7ec; text-align: left; white-space: nowrap; }}
th {{ color: #4a5563; font-weight: 600; }}
.n {{ text-align: right; font-variant-numeric: tabular-nums; }}
.wrong {{ color: #b3261e; font-weight: 600; }}
footer {{ margin-top: 3rem; color: #6b7583; font-size: .85rem; }}
</style></head><body>
<h1>Linked bank accounts</h1>
<p>As Stripe Financial Connections had them at {as_of} UTC. Currencies are never added together.</p>
{body}
<footer>Made by fincon at {made} UTC from {runs} runs. Every number is a query on the views;
<code>fincon schema</code> says what they mean.</footer>
</body></html>
"""


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
UNION ALL SELECT 'balances over a day old', count(*) FROM stale_balances
UNION ALL SELECT 'to be linked again', count(*) FROM relink_needed
"""

RANKED = """
(SELECT currency, row_number() OVER (ORDER BY count(*) DESC, currency) AS place FROM balances GROUP BY currency)"""

HOLDINGS = f"""
SELECT currency, coalesce(category, 'not said') AS category, sum(current_amount)::DOUBLE AS amount
FROM balance_totals JOIN {RANKED} USING (currency) WHERE place <= 4
GROUP BY currency, category, place ORDER BY place, category"""

TOTALS = f"""
SELECT currency, category, sum(accounts)::BIGINT AS accounts, sum(current_amount)::DECIMAL(38, 3) AS current,
    sum(available_amount)::DECIMAL(38, 3) AS available, sum(used_amount)::DECIMAL(38, 3) AS used
FROM balance_totals JOIN {RANKED} USING (currency)
GROUP BY currency, category, place ORDER BY place, category"""

DAILY = f"""
SELECT day, currency, sum(current_amount)::DOUBLE AS amount
FROM balance_daily JOIN accounts USING (stripe_account, account_id) JOIN {RANKED} USING (currency)
WHERE place <= 4 AND category = 'cash'
    AND day >= (SELECT min((observed_at AT TIME ZONE 'UTC')::DATE) FROM lake.balances)
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
FROM relink_needed GROUP BY ALL ORDER BY inactive_now + will_end DESC, institution LIMIT 12"""

LOW = """
SELECT currency, staleness, count(*) AS accounts, count(*) FILTER (available_amount < 0) AS overdrawn
FROM low_balance_risk GROUP BY ALL ORDER BY currency, min(hours_old)"""

RUNS = """
SELECT finished_at AS finished, mode, sessions_seen AS sessions, accounts_seen AS accounts, rows_added, requests, rejected
FROM runs ORDER BY runs.finished_at DESC LIMIT 5"""


def _funnel(frame: pd.DataFrame) -> alt.TopLevelMixin:
    subtitle = "Sessions, and what became of them"
    return charts.counts(frame, "From sessions to active accounts", subtitle, "Sessions", list(frame["name"]))


PARTS = (
    Part(
        "What is held and owed",
        "Current balances of accounts that are not disconnected, in major units; negative is owed. The plot has the four"
        " most frequent currencies, the table all.",
        (HOLDINGS, charts.holdings),
        TOTALS,
    ),
    Part(
        "Day by day",
        "Cash balances at the end of each day (UTC) since the first sync; a day without a new balance has the last one.",
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
        "Active cash accounts with less than 100 available, in the currency's major unit, by how old that is.",
        None,
        LOW,
    ),
    Part("Last runs", "What was fetched, and what it cost.", None, RUNS),
)


def page(views: duckdb.DuckDBPyConnection) -> str:
    """The whole page as HTML."""
    at, runs = views.execute(
        "SELECT max(observed_at), (SELECT count(*) FROM runs) FROM lake.accounts"
    ).fetchall()[0]
    body = [_figures(views.execute(FIGURES).fetchall()), _checked(views)]
    for number, part in enumerate(PARTS):
        body.append(f"<h2>{part.heading}</h2><p>{part.about}</p>")
        body += [_plot(views, *part.plot, prefix=f"p{number}")] if part.plot else []
        body += [_table(views.execute(part.table))] if part.table else []
    return PAGE.format(
        as_of=_text(at) or "no time yet",
        made=_text(datetime.now(UTC)),
        runs=f"{runs:,}",
        body="\n".join(body),
    )


def svg(chart: alt.TopLevelMixin) -> str:
    """A chart as SVG; nothing is fetched to draw it."""
    drawn: str = vl_convert.vegalite_to_svg(chart.to_json(), allowed_base_urls=[])
    return drawn


def _plot(
    views: duckdb.DuckDBPyConnection,
    query: str,
    draw: Callable[[pd.DataFrame], alt.TopLevelMixin],
    prefix: str,
) -> str:
    frame = views.execute(query).df()
    if frame.empty:
        return "<p>Nothing is known yet.</p>"
    drawn = svg(draw(frame))
    for name in ("gradient", "clip"):  # ids, which must differ within a page
        drawn = drawn.replace(f'id="{name}', f'id="{prefix}{name}').replace(
            f"url(#{name}", f"url(#{prefix}{name}"
        )
    return f'<div class="wide">{drawn}</div>'


def _figures(rows: Iterable[tuple[str, int]]) -> str:
    cells = "".join(f"<li><b>{count:,}</b>{what}</li>" for what, count in rows)
    return f'<ul class="figures">{cells}</ul>'


def _checked(views: duckdb.DuckDBPyConnection) -> str:
    """What the checks say, so that a reader knows whether the numbers can be trusted."""
    results = {name: views.execute(query).fetchall() for name, _, query in checks()}
    failed = [name for name, rows in results.items() if rows]
    if failed:
        return f'<p class="wrong">{len(failed)} of {len(results)} checks failed: {", ".join(failed)}.</p>'
    return f"<p>All {len(results)} checks of the data hold.</p>"


def _table(result: duckdb.DuckDBPyConnection) -> str:
    names = [str(name).replace("_", " ") for name, *_ in result.description or ()]
    rows = result.fetchall()
    if not rows:
        return "<p>None.</p>"
    numeric = [
        all(isinstance(row[place], int) or _is_decimal(row[place]) for row in rows)
        for place in range(len(names))
    ]
    classes = [' class="n"' if is_number else "" for is_number in numeric]
    head = "".join(f"<th{css}>{html.escape(name)}</th>" for css, name in zip(classes, names, strict=True))
    lines = [
        "<tr>"
        + "".join(
            f"<td{css}>{html.escape(_text(value))}</td>" for css, value in zip(classes, row, strict=True)
        )
        + "</tr>"
        for row in rows
    ]
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _is_decimal(value: Any) -> bool:
    return value is None or hasattr(value, "as_tuple")


def _text(value: Any) -> str:
    """A value for people: thousands apart, decimals digit for digit, times to the minute."""
    if value is None:
        return "·"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"
    return f"{value:,}" if isinstance(value, int) or _is_decimal(value) else str(value)
