"""``fincon alert``: tell people what is new."""

import click

from fincon.cli.options import command, current_options, echo_status, pluralize
from fincon.cli.terminal import visible
from fincon.errors import UsageError
from fincon.pipeline import alert as alerting
from fincon.pipeline.failures import machine_errors
from fincon.settings import alert_urls, data_folder


@command("fincon alert --dry-run", "FINCON_ALERT_URLS=json://localhost:8000 fincon alert")
@click.option(
    "--dry-run", is_flag=True, help="Show what would be told, with its rows; tell and remember nothing."
)
@click.option(
    "--details", is_flag=True, help="Put rows into the message: they name accounts and their holders."
)
def alert(*, dry_run: bool, details: bool) -> None:
    """Tell what is new by FINCON_ALERT_URLS: links that end, failures, low balances, stale data. Each once."""
    data = data_folder(current_options().data)
    with machine_errors(data):
        urls = alert_urls()
        if dry_run:
            news = alerting.find_news(data, urls)
            if news:
                click.echo(alerting.title(news))
                click.echo(visible(alerting.body(news, details=True), keep="\n"))
        else:
            if not urls:
                raise UsageError(
                    "FINCON_ALERT_URLS is not set: there is nobody to tell.",
                    "Set it to addresses as Apprise has them, blanks between; --dry-run shows what there is to tell.",
                )
            news = alerting.tell(data, urls, details=details)
    count = sum(len(one.rows) for one in news)
    said = "would be told" if dry_run else "told"
    echo_status(f"{pluralize(count, 'new row')} {said}." if news else "Nothing is new.")
