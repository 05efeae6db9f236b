"""Tell people what is new, each of them once: by Apprise, so by mail, Slack, a webhook and a hundred others."""

import html
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import compress
from typing import TYPE_CHECKING

from fincon.errors import RunFailed, UsageError
from fincon.pipeline.attempts import publish_ended
from fincon.settings import Secret
from fincon.storage.s3 import DataPath
from fincon.transforms.wording import format_value, pluralize
from fincon.warehouse.alert_memory import Memory, read_memory, receiver_name, was_told, write_memory
from fincon.warehouse.alerts import Alert, find_alerts

if TYPE_CHECKING:
    from apprise import Apprise

ROWS_TOLD = 20
"""Of an alert, where its rows are asked for."""


def find_news(data: DataPath, urls: Sequence[Secret]) -> list[Alert]:
    """Return what alerts find that one of the addresses was not told yet; where there is none, that nobody was."""
    publish_ended(data)  # an attempt that was killed is news, too
    return _news(find_alerts(data), read_memory(data), [receiver_name(url) for url in urls])


def tell(data: DataPath, urls: Sequence[Secret], *, details: bool) -> list[Alert]:
    """Tell each address what is new to it, in one message; return all that was new to any.

    What one did not take is told to that one alone the next time.

    Raises:
        UsageError: an address is none that Apprise knows; nobody was told anything.
        RunFailed: a receiver did not take it; the others did.
    """
    receivers = _receivers(urls)
    publish_ended(data)
    found, before = find_alerts(data), read_memory(data)
    told, failed = [], []
    for number, (name, receiver) in enumerate(receivers.items(), 1):
        news = _news(found, before, [name])
        if not news or _send(receiver, title(news), body(news, details=details)):
            told.append(name)
        else:
            failed.append(str(number))
    write_memory(data, {alert.name: alert.keys for alert in found}, told)
    news = _news(found, before, list(receivers))
    if news and told:
        publish_ended(data)  # so that alerts_told has it
    if failed:
        raise RunFailed(
            f"Of {pluralize(len(receivers), 'receiver')} of FINCON_ALERT_URLS did not take the message: "
            f"number {', '.join(failed)}.",
            "Check the address and the network; what is new is told to it the next time.",
        )
    return news


def _send(receiver: "Apprise", subject: str, text: str) -> bool:
    """Send a message to all that an address names; return whether each took it. Mail is HTML, where a line would be no line."""
    as_html = html.escape(text).replace("\n", "<br>\n")
    took = [
        one.notify(title=subject, body=as_html if one.notify_format == "html" else text) for one in receiver
    ]
    return all(took)


def _news(found: Sequence[Alert], before: Memory, receivers: Sequence[str]) -> list[Alert]:
    """Return of each alert the rows that are new to one of the receivers."""
    news = []
    for alert in found:
        new = [not was_told(before, alert.name, key, receivers) for key in alert.keys]
        if any(new):
            rows, keys = list(compress(alert.rows, new)), list(compress(alert.keys, new))
            news.append(replace(alert, rows=rows, keys=keys))
    return news


def title(news: Sequence[Alert]) -> str:
    """Return the subject of a message: how much of what."""
    return "fincon: " + ", ".join(f"{alert.name} ({len(alert.rows):,})" for alert in news)


def body(news: Sequence[Alert], *, details: bool) -> str:
    """Return the message: meanings and counts; rows, which may name people, where ``details`` are asked for."""
    lines = []
    for alert in news:
        lines.append(f"{alert.name}: {pluralize(len(alert.rows), 'new row')}. {alert.meaning}")
        if details:
            lines += [f"  {', '.join(_said(alert, row))}" for row in alert.rows[:ROWS_TOLD]]
            if len(alert.rows) > ROWS_TOLD:
                lines.append(f"  … and {len(alert.rows) - ROWS_TOLD:,} more")
    return "\n".join([*lines, "", "`fincon alert --dry-run` shows the rows."])


def _said(alert: Alert, row: Sequence[object]) -> Iterator[str]:
    """Yield the values of a row that say something, each after its column's name."""
    values = dict(zip(alert.columns, row, strict=True))
    for name, value in values.items():
        if text := format_value(value, values.get("currency")):
            yield f"{name} {text}"


def _receivers(urls: Sequence[Secret]) -> dict[str, "Apprise"]:
    """Return name → whom to tell, in the order of the addresses; one that is named twice is told once.

    Raises:
        UsageError: an address is none that Apprise knows.
    """
    import apprise  # takes half a second, which only who alerts has to wait for

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it would log addresses, which hold secrets
    receivers = {}
    for number, url in enumerate(urls, 1):
        receiver = apprise.Apprise()
        if not receiver.add(url.reveal()):
            raise UsageError(
                f"The address number {number} in FINCON_ALERT_URLS is none that Apprise knows.",
                "It looks like json://…, slack://…, mailto://…: https://github.com/caronc/apprise has them all.",
            )
        receivers[receiver_name(url)] = receiver
    return receivers
