"""Tell people what is new, once: by Apprise, so by mail, Slack, a webhook and a hundred others."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress

from fincon.errors import RunFailed, UsageError
from fincon.pipeline.attempts import publish_ended
from fincon.settings import Secret
from fincon.storage.s3 import DataPath
from fincon.transforms.wording import pluralize
from fincon.warehouse.alerts import Alert, find_alerts, is_new, read_memory, write_memory

ROWS_TOLD = 20
"""Of an alert, where its rows are asked for."""


def new_alerts(data: DataPath) -> tuple[list[Alert], list[Alert]]:
    """Return all that alerts find, and of that what was not told yet."""
    publish_ended(data)  # an attempt that was killed is news, too
    found, before = find_alerts(data), read_memory(data)
    news = []
    for alert in found:
        new = is_new(alert, before)
        if any(new):
            rows, keys = list(compress(alert.rows, new)), list(compress(alert.keys, new))
            news.append(replace(alert, rows=rows, keys=keys))
    return found, news


def tell(data: DataPath, urls: Sequence[Secret], *, details: bool) -> list[Alert]:
    """Tell what is new, in one message to each address; return it. What could be told to nobody is told the next time.

    Raises:
        UsageError: an address is none that Apprise knows.
        RunFailed: a receiver did not take it.
    """
    found, news = new_alerts(data)
    if news:
        _send(urls, title(news), body(news, details=details))
    write_memory(data, found)
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
            for row in alert.rows[:ROWS_TOLD]:
                told = ", ".join(f"{name} {value}" for name, value in zip(alert.columns, row, strict=True))
                lines.append(f"  {told}")
            if len(alert.rows) > ROWS_TOLD:
                lines.append(f"  … and {len(alert.rows) - ROWS_TOLD:,} more")
    return "\n".join([*lines, "", "`fincon alert --dry-run` shows the rows."])


def _send(urls: Sequence[Secret], subject: str, text: str) -> None:
    import apprise  # takes half a second, which only who alerts has to wait for

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it would log addresses, which hold secrets
    receivers = apprise.Apprise()
    for number, url in enumerate(urls, 1):
        if not receivers.add(url.reveal()):
            raise UsageError(
                f"The address number {number} in FINCON_ALERT_URLS is none that Apprise knows.",
                "It looks like json://…, slack://…, mailto://…: https://github.com/caronc/apprise has them all.",
            )
    failed = [
        str(n) for n, receiver in enumerate(receivers, 1) if not receiver.notify(title=subject, body=text)
    ]
    if failed:
        raise RunFailed(
            f"Of {pluralize(len(urls), 'receiver')} of FINCON_ALERT_URLS did not take the message: number {', '.join(failed)}.",
            "Check the address and the network; all that is new is told again the next time.",
        )
