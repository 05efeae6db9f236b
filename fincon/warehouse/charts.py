"""Draw the plots of the report and the notebooks: each function takes a frame and returns an Altair chart.

No axis carries two currencies. The colours are Okabe and Ito's, which colour-blind people can tell apart.
"""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from fincon.transforms.money import minor_unit_digits

BLUE, ORANGE, RED, GREY = "#0072B2", "#E69F00", "#D55E00", "#8A8F98"
FONT = "DejaVu Sans, Helvetica, Arial, sans-serif"
WIDTH = 560

AGES = ("under 6 hours", "under a day", "under a week", "a week or more", "never")


def _as_written(currency: str, sign: str = "") -> str:
    """Write the Vega expression that writes a tick as a person would: 0.60, 1.2 k, 3.4 M, 1.9 bn; 0 for zero."""
    digits = minor_unit_digits(currency) or 0
    steps = " : ".join(
        f"abs(datum.value) >= {size} ? format(datum.value / {size}, '{sign},.4~f') + ' {unit}'"
        for size, unit in (("1e12", "tn"), ("1e9", "bn"), ("1e6", "M"), ("1e3", "k"))
    )
    small = f"format(datum.value, floor(datum.value) == datum.value ? '{sign},.0f' : '{sign},.{digits}f')"
    return f"datum.value == 0 ? '0' : {steps} : {small}"


def _styled(
    chart: alt.Chart | alt.LayerChart | alt.VConcatChart, title: str, subtitle: str
) -> alt.TopLevelMixin:
    """Give a chart its title and the looks that all share."""
    styled: alt.TopLevelMixin = (
        chart.properties(title=alt.Title(title, subtitle=subtitle))
        .configure(font=FONT, background="white", padding=8)
        .configure_title(anchor="start", fontSize=15, subtitleFontSize=12, subtitleColor="#555", offset=14)
        .configure_axis(
            labelFontSize=11,
            labelLimit=220,
            titleFontSize=11,
            titleFontWeight="normal",
            titleColor="#333",
            gridColor="#e6e6e6",
            domainColor="#999",
            tickColor="#999",
        )
        .configure_view(stroke=None)
        .configure_legend(labelFontSize=11, titleFontSize=11, titleFontWeight="normal", orient="top")
    )
    return styled


def holdings(frame: pd.DataFrame) -> alt.TopLevelMixin:
    """Draw bars of what is held and owed: ``currency``, ``category``, ``amount`` in major units. A panel for each currency."""
    panels = []
    for currency in frame["currency"].drop_duplicates():
        own = frame[frame["currency"] == currency]
        base = alt.Chart(own).encode(
            y=alt.Y("category:N", title=None, sort=["cash", "credit", "investment", "other"]),
            x=alt.X(
                "amount:Q",
                title=f"{currency.upper()}, major units",
                axis=alt.Axis(labelExpr=_as_written(currency), tickCount=6, labelOverlap=True),
                scale=alt.Scale(domain=_room_for_labels(own["amount"]), nice=False),
            ),
        )
        number = f",.{minor_unit_digits(currency) or 0}f"
        panels.append(_bars_both_ways(base, "amount", number).properties(width=WIDTH, height=alt.Step(22)))
    chart = alt.vconcat(*panels, spacing=18)
    return _styled(
        chart,
        "What is held and owed",
        "One panel for each currency; blue is held, red is owed by the holders",
    )


def _bars_both_ways(base: alt.Chart, field: str, number: str) -> alt.LayerChart:
    """Draw bars of a field, red where it is negative, with their numbers beyond their ends."""
    negative = alt.datum[field] < 0
    bars = base.mark_bar(height=15).encode(
        color=alt.when(negative).then(alt.value(RED)).otherwise(alt.value(BLUE))
    )
    label = alt.Text(f"{field}:Q", format=number)
    right = base.transform_filter(~negative).mark_text(align="left", dx=5, fontSize=11)
    left = base.transform_filter(negative).mark_text(align="right", dx=-5, fontSize=11)
    layers: alt.LayerChart = bars + right.encode(text=label) + left.encode(text=label)
    return layers


def _room_for_labels(amounts: pd.Series) -> list[float]:
    """Return a domain with 0 in it, and room beside the longest bars for their numbers."""
    low, high = min(0.0, float(amounts.min())), max(0.0, float(amounts.max()))
    room = 0.3 * (high - low or 1.0)
    return [low - room if low < 0 else 0.0, high + room]


def daily(frame: pd.DataFrame) -> alt.TopLevelMixin:
    """Draw lines by day: ``day``, ``currency``, ``amount`` in major units. A panel for each currency, each on its own scale."""
    panels = []
    for currency in frame["currency"].drop_duplicates():
        line = (
            alt.Chart(frame[frame["currency"] == currency])
            .mark_line(color=BLUE, point=alt.OverlayMarkDef(color=BLUE, size=30))
            .encode(
                x=alt.X(
                    "day:T", title="Day (UTC)", axis=alt.Axis(format="%-d %b", tickCount=8, labelOverlap=True)
                ),
                y=alt.Y(
                    "amount:Q",
                    title=f"{currency.upper()}, major units",
                    scale=alt.Scale(zero=False, nice=True),
                    axis=alt.Axis(labelExpr=_as_written(currency), tickCount=4),
                ),
            )
        )
        panels.append(line.properties(width=WIDTH, height=120))
    chart = alt.vconcat(*panels, spacing=18)
    return _styled(
        chart,
        "Cash at the end of each day",
        "Sum of current balances; the last day is not over; axes do not begin at zero",
    )


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
                bin="binned",
                title=f"Current balance, {code}, major units",
                axis=alt.Axis(labelExpr=_as_written(currency)),
            ),
            x2="end:Q",
            y=alt.Y("accounts:Q", title="Accounts", axis=alt.Axis(tickMinStep=1)),
            color=alt.when(alt.datum["bin"] < 0).then(alt.value(RED)).otherwise(alt.value(BLUE)),
        )
        .properties(width=WIDTH, height=220)
    )
    return _styled(chart, f"How cash balances spread, {code}", "Red is overdrawn")


def changes(frame: pd.DataFrame, currency: str, since: str) -> alt.TopLevelMixin:
    """Draw bars of what came and went: ``institution`` and ``change`` in major units, of one currency."""
    order = list(frame.sort_values("change", ascending=False)["institution"])
    base = alt.Chart(frame).encode(
        y=alt.Y("institution:N", title=None, sort=order),
        x=alt.X(
            "change:Q",
            title=f"Change since {since}, {currency.upper()}, major units",
            axis=alt.Axis(labelExpr=_as_written(currency, "+"), labelOverlap=True),
            scale=alt.Scale(domain=_room_for_labels(frame["change"]), nice=False),
        ),
    )
    chart = _bars_both_ways(base, "change", "+,.0f").properties(width=WIDTH - 120, height=alt.Step(22))
    return _styled(
        chart, f"Cash since {since}", "Sum of current balances by institution; blue rose, red fell"
    )


def failures(frame: pd.DataFrame) -> alt.TopLevelMixin:
    """Draw a heatmap of refreshes: ``institution``, ``feature``, ``share_failed`` (0 to 1) and ``accounts``."""
    base = alt.Chart(frame).encode(
        x=alt.X("feature:N", title=None, axis=alt.Axis(labelAngle=0, orient="top")),
        y=alt.Y(
            "institution:N",
            title=None,
            sort=alt.EncodingSortField("share_failed", op="max", order="descending"),
        ),
    )
    top = max(0.05, float(frame["share_failed"].max()))  # below, the legend would say 0% and 1% several times
    cells = base.mark_rect(stroke="white", strokeWidth=2).encode(
        color=alt.Color(
            "share_failed:Q",
            title="Share of accounts whose last refresh failed",
            scale=alt.Scale(scheme="oranges", domain=[0, top]),
            legend=alt.Legend(format=".0%", tickCount=4, gradientLength=220, titleLimit=400),
        )
    )
    dark = alt.datum["share_failed"] > 0.7 * top
    text = base.transform_calculate(
        label="format(datum.share_failed, '.0%') + ' of ' + datum.accounts"
    ).mark_text(fontSize=11)
    labels = text.encode(
        text="label:N", color=alt.when(dark).then(alt.value("white")).otherwise(alt.value("#222"))
    )
    chart = (cells + labels).properties(width=390, height=alt.Step(24))
    return _styled(chart, "Where refreshes fail", "Last attempt of each account, by institution and feature")


def ages(frame: pd.DataFrame) -> alt.TopLevelMixin:
    """Draw bars of how old balances are: ``age`` (one of `AGES`), ``last_refresh`` and ``accounts``."""
    order = ["succeeded", "pending", "failed", "no attempt"]
    chart = (
        alt.Chart(frame)
        .mark_bar(height=20)
        .encode(
            y=alt.Y("age:N", title="Age of the balance", sort=list(AGES), scale=alt.Scale(domain=list(AGES))),
            x=alt.X("accounts:Q", title="Active accounts that permit balances", axis=alt.Axis(tickMinStep=1)),
            color=alt.Color(
                "last_refresh:N",
                title="Last attempt to refresh",
                sort=order,
                scale=alt.Scale(domain=order, range=[BLUE, ORANGE, RED, GREY]),
            ),
            order=alt.Order("rank:Q"),
        )
        .transform_calculate(rank=f"indexof({order!r}, datum.last_refresh)")
        .properties(width=WIDTH - 80, height=alt.Step(30))
    )
    return _styled(chart, "How old the balances are", "Accounts by the age of what we know")


def _largest_first(frame: pd.DataFrame, by: str) -> list[str]:
    """Return the names of the rows, in the order of their bars."""
    return list(frame.sort_values(by, ascending=False)["name"])


def counts(
    frame: pd.DataFrame, title: str, subtitle: str, axis: str, order: Sequence[str] | None = None
) -> alt.TopLevelMixin:
    """Draw bars of counts with their numbers: ``name`` and ``count``; ``share`` (0 to 1) is written behind if there."""
    base = alt.Chart(frame).encode(
        y=alt.Y("name:N", title=None, sort=list(order or _largest_first(frame, "count"))),
        x=alt.X("count:Q", title=axis, axis=alt.Axis(tickMinStep=1)),
    )
    said = "format(datum.count, ',')" + (
        " + '  (' + format(datum.share, '.0%') + ')'" if "share" in frame else ""
    )
    labels = base.transform_calculate(label=said).mark_text(align="left", dx=5, fontSize=11)
    bars = base.mark_bar(height=18, color=BLUE) + labels.encode(text="label:N")
    return _styled(bars.properties(width=WIDTH - 130, height=alt.Step(27)), title, subtitle)


def pairs(
    frame: pd.DataFrame, names: tuple[str, str], title: str, subtitle: str, axis: str
) -> alt.TopLevelMixin:
    """Draw two bars for each ``name``: ``first`` and ``second``, called ``names``."""
    long = frame.rename(columns={"first": names[0], "second": names[1]}).melt(
        "name", list(names), "which", "count"
    )
    base = alt.Chart(long).encode(
        y=alt.Y("name:N", title=None, sort=_largest_first(frame, "first")),
        yOffset=alt.YOffset("which:N", sort=list(names)),
        x=alt.X("count:Q", title=axis, axis=alt.Axis(tickMinStep=1)),
    )
    bars = base.mark_bar().encode(
        color=alt.Color("which:N", title=None, sort=list(names), scale=alt.Scale(range=[GREY, BLUE]))
    )
    labels = base.mark_text(align="left", dx=4, fontSize=11).encode(text=alt.Text("count:Q", format=","))
    chart = (bars + labels).properties(width=WIDTH - 130, height=alt.Step(18))
    return _styled(chart, title, subtitle)
