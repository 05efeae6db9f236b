"""Draw the plots of the report and the notebooks: each function takes a frame and returns an Altair chart.

No axis carries two currencies. The colours are Okabe and Ito's, which colour-blind people can tell apart.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec

import altair as alt
import pandas as pd

from fincon.warehouse.chart_axes import (
    NARROW,
    WIDTH,
    amounts_axis,
    as_written,
    days,
    room_for_labels,
    styled,
    whole_numbers,
    written,
)

BLUE, ORANGE, RED, GREY = "#0072B2", "#E69F00", "#D55E00", "#8A8F98"
CASH_BY_DAY = (
    "Cash at the end of each day",
    "Sum of current balances; the last day is not over; axes do not begin at zero",
)
P = ParamSpec("P")
AGES = ("under 6 hours", "under a day", "under a week", "a week or more", "never")


def _or_nothing(draw: Callable[P, alt.TopLevelMixin]) -> Callable[P, alt.TopLevelMixin]:
    """Have a plot of a frame without rows say that there is nothing, in place of axes of nothing."""

    @wraps(draw)
    def drawn(*arguments: P.args, **more: P.kwargs) -> alt.TopLevelMixin:
        frame = arguments[0] if arguments else more["frame"]
        if not isinstance(frame, pd.DataFrame) or len(frame):
            return draw(*arguments, **more)
        said = alt.Chart(pd.DataFrame({"text": ["Nothing is known yet."]})).mark_text(align="left", x=0)
        return styled(said.encode(text="text:N").properties(height=20), draw.__name__.capitalize(), "")

    return drawn


def _by_currency(
    frame: pd.DataFrame,
    draw: Callable[[pd.DataFrame, str, int], alt.Chart | alt.LayerChart],
    title: tuple[str, str],
    width: int,
) -> alt.TopLevelMixin:
    """Draw a panel for each currency of a frame, in the order in which they come."""
    panels = [
        draw(frame[frame["currency"] == currency], currency, width)
        for currency in frame["currency"].drop_duplicates()
    ]
    if len(panels) == 1:
        return styled(panels[0], *title, width)
    return styled(alt.vconcat(*(panel.properties(width=width) for panel in panels), spacing=18), *title)


@_or_nothing
def holdings(frame: pd.DataFrame, width: int = WIDTH) -> alt.TopLevelMixin:
    """Draw bars of what is held and owed: ``currency``, ``category``, ``amount`` in major units. A panel for each currency."""
    title = ("What is held and owed", "One panel for each currency; blue is held, red is owed by the holders")
    return _by_currency(frame, _held, title, width)


def _held(frame: pd.DataFrame, currency: str, width: int) -> alt.LayerChart:
    room = room_for_labels(frame["amount"], currency, width)
    base = alt.Chart(frame).encode(
        y=alt.Y("category:N", title=None, sort=["cash", "credit", "investment", "other"]),
        x=alt.X(
            "amount:Q",
            scale=alt.Scale(domain=room, nice=False),
            **amounts_axis(pd.Series([*frame["amount"], 0]), currency, 3 if width <= NARROW else 6),
        ),
    )
    return _bars_both_ways(base, "amount", "category", written(currency, width, "amount")).properties(
        height=alt.Step(24)
    )


def _bars_both_ways(base: alt.Chart, field: str, name: str, written: str) -> alt.LayerChart:
    """Draw bars of a field, red where it is negative, with their numbers beyond their ends."""
    base = base.transform_calculate(label=written, told=f"datum.{name} + ': ' + {written}")
    negative = alt.datum[field] < 0
    bars = base.mark_bar(height=15).encode(
        color=alt.when(negative).then(alt.value(RED)).otherwise(alt.value(BLUE)),
        description=alt.Description("told:N"),
    )
    right = base.transform_filter(~negative).mark_text(align="left", dx=5, fontSize=11)
    left = base.transform_filter(negative).mark_text(align="right", dx=-5, fontSize=11)
    layers: alt.LayerChart = bars + right.encode(text="label:N") + left.encode(text="label:N")
    return layers


@_or_nothing
def daily(frame: pd.DataFrame, width: int = WIDTH, title: tuple[str, str] = CASH_BY_DAY) -> alt.TopLevelMixin:
    """Draw lines by day: ``day``, ``currency``, ``amount`` in major units. A panel for each currency, each on its own scale."""
    return _by_currency(frame, _line, title, width)


def _line(frame: pd.DataFrame, currency: str, width: int) -> alt.LayerChart:
    base = (
        alt.Chart(frame)
        .transform_calculate(
            told=f"timeFormat(datum.day, '%-d %b %Y') + ': ' + {written(currency, WIDTH, 'amount')}"
        )
        .encode(
            x=alt.X("day:T", title="Day (UTC)", axis=days(frame["day"], width)),
            y=alt.Y(
                "amount:Q",
                scale=alt.Scale(zero=False, nice=True),
                **amounts_axis(frame["amount"], currency, 4),
            ),
        )
    )
    points = base.mark_point(color=BLUE, filled=True, size=30, opacity=1).encode(
        description=alt.Description("told:N")
    )
    layers: alt.LayerChart = base.mark_line(color=BLUE) + points
    return layers.properties(height=120)


@_or_nothing
def flows(frame: pd.DataFrame, width: int = WIDTH) -> alt.TopLevelMixin:
    """Draw bars by month: ``month``, ``currency``, ``money_in`` and ``money_out`` (negative) in major units."""
    title = (
        "What came in and went out",
        "By month (UTC); blue came in, red went out; the last month is not over",
    )
    return _by_currency(frame, _flow, title, width)


def _flow(frame: pd.DataFrame, currency: str, width: int) -> alt.Chart:
    long = frame.assign(name=frame["month"].dt.strftime("%b %Y")).melt(
        "name", ["money_in", "money_out"], "way", "amount"
    )
    names = list(dict.fromkeys(long["name"]))
    month_over_year = alt.Axis(labelAngle=0, labelOverlap=True, labelExpr="split(datum.label, ' ')")
    chart = (
        alt.Chart(long)
        .transform_calculate(told=f"datum.name + ': ' + {written(currency, WIDTH, 'amount', '+')}")
        .mark_bar(size=min(28, (width - 90) // max(len(names), 1) - 4))
        .encode(
            x=alt.X("name:O", title=None, sort=names, axis=month_over_year),
            y=alt.Y("amount:Q", **amounts_axis(long["amount"], currency, 4)),
            color=alt.when(alt.datum["amount"] < 0).then(alt.value(RED)).otherwise(alt.value(BLUE)),
            description=alt.Description("told:N"),
        )
    )
    panel: alt.Chart = chart.properties(height=130)
    return panel


@_or_nothing
def distribution(frame: pd.DataFrame, currency: str, step: int) -> alt.TopLevelMixin:
    """Draw a histogram: ``bin`` (its lower end, in major units, ``step`` wide) and ``accounts``, of one currency."""
    wide = frame.assign(end=frame["bin"] + step)
    code = currency.upper()
    chart = (
        alt.Chart(wide)
        .mark_bar(stroke="white")
        .encode(
            x=alt.X(
                "bin:Q",
                bin=alt.BinParams(binned=True, step=step),  # ticks stand where bars meet
                title=f"Current balance, {code}, major units",
                axis=alt.Axis(labelExpr=as_written(currency), labelOverlap=True, labelSeparation=8),
            ),
            x2="end:Q",
            y=alt.Y("accounts:Q", title="Accounts", axis=alt.Axis(tickMinStep=1)),
            color=alt.when(alt.datum["bin"] < 0).then(alt.value(RED)).otherwise(alt.value(BLUE)),
        )
        .properties(height=220)
    )
    return styled(chart, f"How cash balances spread, {code}", "Red is overdrawn")


@_or_nothing
def changes(frame: pd.DataFrame, currency: str, since: str) -> alt.TopLevelMixin:
    """Draw bars of what came and went: ``institution`` and ``change`` in major units, of one currency."""
    order = list(frame.sort_values("change", ascending=False)["institution"])
    base = alt.Chart(frame).encode(
        y=alt.Y("institution:N", title=None, sort=order),
        x=alt.X(
            "change:Q",
            title=f"Change since {since}, {currency.upper()}, major units",
            axis=alt.Axis(labelExpr=as_written(currency, "+"), labelOverlap=True, tickCount=6),
            scale=alt.Scale(domain=room_for_labels(frame["change"], "jpy", WIDTH - 110), nice=False),
        ),
    )
    chart = _bars_both_ways(base, "change", "institution", "format(datum.change, '+,.0f')")
    return styled(
        chart.properties(height=alt.Step(24)),
        f"Cash since {since}",
        "Sum of current balances by institution; blue rose, red fell",
    )


@_or_nothing
def failures(frame: pd.DataFrame, width: int = WIDTH) -> alt.TopLevelMixin:
    """Draw a heatmap of refreshes: ``institution``, ``feature``, ``share_failed`` (0 to 1) and ``accounts``."""
    top = max(0.05, float(frame["share_failed"].max()))
    base = (
        alt.Chart(frame)
        .transform_calculate(
            label="format(datum.share_failed, '.0%')"
            + ("" if width <= NARROW else " + ' of ' + format(datum.accounts, ',')"),
            told="datum.institution + ', ' + datum.feature + ': ' + format(datum.share_failed, '.1%')"
            " + ' of ' + format(datum.accounts, ',') + ' failed'",
        )
        .encode(
            x=alt.X("feature:N", title=None, axis=alt.Axis(labelAngle=0, orient="top")),
            y=alt.Y(
                "institution:N",
                title=None,
                sort=alt.EncodingSortField("share_failed", op="max", order="descending"),
            ),
        )
    )
    cells = base.mark_rect(stroke="white", strokeWidth=2).encode(
        # Each cell says its share, so that a legend would say nothing more.
        color=alt.Color("share_failed:Q", scale=alt.Scale(scheme="oranges", domain=[0, top]), legend=None),
        description=alt.Description("told:N"),
    )
    dark = alt.datum["share_failed"] > 0.7 * top
    labels = base.mark_text(fontSize=11).encode(
        text="label:N", color=alt.when(dark).then(alt.value("white")).otherwise(alt.value("#222"))
    )
    chart = (cells + labels).properties(height=alt.Step(24))
    return styled(
        chart, "Where refreshes fail", "Last attempt of each account, by institution and feature", width
    )


@_or_nothing
def ages(frame: pd.DataFrame, width: int = WIDTH) -> alt.TopLevelMixin:
    """Draw bars of how old balances are: ``age`` (one of `AGES`), ``last_refresh`` and ``accounts``."""
    order = ["succeeded", "pending", "failed", "no attempt"]
    chart = (
        alt.Chart(frame)
        .mark_bar(height=20)
        .encode(
            y=alt.Y("age:N", title=None, sort=list(AGES), scale=alt.Scale(domain=list(AGES))),
            x=alt.X(
                "accounts:Q",
                title="Active accounts that permit balances",
                axis=whole_numbers(frame.groupby("age")["accounts"].sum(), width),
            ),
            color=alt.Color(
                "last_refresh:N",
                title="Last attempt to refresh",
                sort=order,
                scale=alt.Scale(domain=order, range=[BLUE, ORANGE, RED, GREY]),
            ),
            order=alt.Order("rank:Q"),
            description=alt.Description("told:N"),
        )
        .transform_calculate(
            rank=f"indexof({order!r}, datum.last_refresh)",
            told="datum.age + ', last attempt: ' + datum.last_refresh + ': ' + format(datum.accounts, ',')",
        )
        .properties(height=alt.Step(28))
    )
    return styled(chart, "How old the balances are", "Accounts by the age of what we know", width)


def _largest_first(frame: pd.DataFrame, by: str) -> list[str]:
    """Return the names of the rows, in the order of their bars."""
    return list(frame.sort_values(by, ascending=False)["name"])


@_or_nothing
def counts(
    frame: pd.DataFrame,
    title: tuple[str, str],
    axis: str,
    order: Sequence[str] | None = None,
    width: int = WIDTH,
) -> alt.TopLevelMixin:
    """Draw bars of counts with their numbers: ``name`` and ``count``; ``share`` (0 to 1) is written behind if there."""
    base = alt.Chart(frame).encode(
        y=alt.Y("name:N", title=None, sort=list(order or _largest_first(frame, "count"))),
        x=alt.X(
            "count:Q",
            title=axis,
            axis=whole_numbers(frame["count"], width),
            scale=alt.Scale(
                domain=[0, float(frame["count"].max()) * (1 + 110 / (width * 0.6)) or 1], nice=False
            ),
        ),
    )
    said = "format(datum.count, ',')" + (
        " + '  (' + format(datum.share, '.0%') + ')'" if "share" in frame else ""
    )
    base = base.transform_calculate(label=said, told=f"datum.name + ': ' + {said}")
    labels = base.mark_text(align="left", dx=5, fontSize=11).encode(text="label:N")
    bars = base.mark_bar(height=18, color=BLUE).encode(description=alt.Description("told:N"))
    return styled((bars + labels).properties(height=alt.Step(27)), *title, width)


@_or_nothing
def pairs(
    frame: pd.DataFrame, names: tuple[str, str], title: tuple[str, str], axis: str
) -> alt.TopLevelMixin:
    """Draw two bars for each ``name``: ``first`` and ``second``, called ``names``."""
    long = frame.rename(columns={"first": names[0], "second": names[1]}).melt(
        "name", list(names), "which", "count"
    )
    base = alt.Chart(long).encode(
        y=alt.Y("name:N", title=None, sort=_largest_first(frame, "first")),
        yOffset=alt.YOffset("which:N", sort=list(names)),
        x=alt.X("count:Q", title=axis, axis=whole_numbers(long["count"], WIDTH)),
    )
    bars = base.mark_bar().encode(
        color=alt.Color("which:N", title=None, sort=list(names), scale=alt.Scale(range=[GREY, BLUE]))
    )
    labels = base.mark_text(align="left", dx=4, fontSize=11).encode(text=alt.Text("count:Q", format=","))
    chart = (bars + labels).properties(height=alt.Step(18))
    return styled(chart, *title)
