"""Give plots the looks that all share, and write their numbers as a person would, on axes and beside bars."""

from typing import Any

import altair as alt
import pandas as pd

from fincon.transforms.money import minor_unit_digits

FONT = "DejaVu Sans, Helvetica, Arial, sans-serif"
WIDTH = 680
"""How many pixels a plot is wide with its axes, unless it is told otherwise; from `NARROW` down, numbers are written short."""
NARROW = 400
CHARACTER = 7.0
"""About how many pixels a character of a label is wide."""

EXACT = 2**53
"""Up to where a plot's numbers, which are floats, have all digits of a whole number of minor units."""


def as_written(currency: str, sign: str = "", of: str = "datum.value", decimals: int = 4) -> str:
    """Write the Vega expression that writes a number as a person would: 0.60, 1.2 k, 3.4 M, 1.9 bn; 0 for zero."""
    digits = minor_unit_digits(currency) or 0
    steps = " : ".join(
        f"abs({of}) >= {size} ? format({of} / {size}, '{sign},.{decimals}~f') + ' {unit}'"
        for size, unit in (("1e12", "tn"), ("1e9", "bn"), ("1e6", "M"), ("1e3", "k"))
    )
    small = f"format({of}, floor({of}) == {of} ? '{sign},.0f' : '{sign},.{digits}f')"
    return f"({of} == 0 ? '0' : {steps} : {small})"


def written(currency: str, width: int, field: str, sign: str = "") -> str:
    """Write the Vega expression for the number beside a bar: all its digits, or short where there is no room for them."""
    short = as_written(currency, sign, f"datum.{field}", 2)
    if width <= NARROW:
        return short
    digits = minor_unit_digits(currency) or 0
    return (
        f"(abs(datum.{field}) < {EXACT} / 1e{digits} ? format(datum.{field}, '{sign},.{digits}f') : {short})"
    )


def amounts_axis(amounts: pd.Series, currency: str, ticks: int) -> dict[str, Any]:
    """Return the title and the axis of amounts in major units: about so many ticks, none between two minor units."""
    steps = round(float(amounts.max() - amounts.min()) * 10 ** (minor_unit_digits(currency) or 0))
    return {
        "title": f"{currency.upper()}, major units",
        "axis": alt.Axis(
            labelExpr=as_written(currency), labelOverlap=True, tickCount=max(1, min(ticks, steps))
        ),
    }


def whole_numbers(counts: pd.Series, width: int) -> alt.Axis:
    """Return an axis of counts: no ticks between whole numbers, as tickMinStep would leave."""
    ticks = 4 if width <= NARROW else 8
    return alt.Axis(format=",d", tickCount=max(1, min(ticks, int(counts.max()))), labelOverlap=True)


def days(shown: pd.Series, width: int) -> alt.Axis:
    """Return an axis of days on which each day stands once at most, with the year where there are several."""
    first, last = shown.min(), shown.max()
    step = -(-max((last - first).days, 1) // (3 if width <= NARROW else 8))
    return alt.Axis(
        format="%-d %b" if first.year == last.year else "%-d %b %Y",
        tickCount=alt.TimeIntervalStep(interval="day", step=step),
        labelOverlap=True,
    )


def room_for_labels(amounts: pd.Series, currency: str, width: int) -> list[float]:
    """Return a domain with 0 in it, and room beside the longest bars for their numbers."""
    low, high = min(0.0, float(amounts.min())), max(0.0, float(amounts.max()))
    digits = minor_unit_digits(currency) or 0
    longest = 9 if width <= NARROW else max(len(f"{amount:+,.{digits}f}") for amount in (low, high))
    label = CHARACTER * longest + 8
    beside = label * ((low < 0) + (high > 0))
    unit = (high - low or 1.0) / max(width - 110 - beside, width * 0.2)
    return [low - unit * label if low < 0 else 0.0, high + unit * label if high > 0 or low == 0 else 0.0]


def styled(
    chart: alt.Chart | alt.LayerChart | alt.VConcatChart, title: str, subtitle: str, width: int = WIDTH
) -> alt.TopLevelMixin:
    """Give a chart its title, the looks that all share, and its width, axes and all. Panels have theirs already."""
    if not isinstance(chart, alt.VConcatChart):
        fit = alt.AutoSizeParams(type="fit-x", contains="padding")
        chart = chart.properties(width=width, autosize=fit)
    looks: alt.TopLevelMixin = (
        chart.properties(title=alt.Title(title, subtitle=subtitle))
        .configure(font=FONT, background="white", padding=8)
        .configure_title(anchor="start", fontSize=15, subtitleFontSize=12, subtitleColor="#555", offset=14)
        .configure_axis(
            labelFontSize=11,
            labelLimit=100 if width <= NARROW else 220,
            labelColor="#333",
            titleFontSize=11,
            titleFontWeight="normal",
            titleColor="#333",
            gridColor="#e6e6e6",
            domainColor="#999",
            tickColor="#999",
        )
        .configure_text(color="#333")
        .configure_view(stroke=None)
        .configure_legend(
            labelFontSize=11,
            titleFontSize=11,
            titleFontWeight="normal",
            titleColor="#333",
            labelColor="#333",
            orient="top",
            columns=2 if width <= NARROW else 4,
        )
    )
    return looks
