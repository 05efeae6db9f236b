"""``fincon rates``: exchange rates that a person gives, for ``to_currency``."""

import click

from fincon.cli import interrupt
from fincon.cli.maintain import existing_lake
from fincon.cli.options import FILE, command, echo_status, pluralize, wait_option
from fincon.pipeline.failures import machine_errors
from fincon.pipeline.rates import read_rates, store_rates
from fincon.storage.lock import retry_while_locked
from fincon.storage.s3 import S3Path


@command("fincon rates ecb.csv", "fincon rates --replace rates.csv")
@click.argument("file", type=FILE)
@click.option("--replace", is_flag=True, help="Forget the rates of before: those in FILE are all.")
@wait_option
def rates(file: str, wait_seconds: float, *, replace: bool) -> None:
    """Take in exchange rates for to_currency and holder_totals. Nothing is fetched.

    FILE is CSV with the columns day, from, to and rate, or - for standard input. Its rates are added to those of before;
    one of the same day, from and to takes the other's place. A file with a bad line is refused whole.
    """
    data = existing_lake()
    given = read_rates(file)
    with interrupt.unwinding(when=isinstance(data, S3Path)), machine_errors(data):
        stored = retry_while_locked(lambda: store_rates(data, given, replace=replace), wait_seconds)
    kept = f", {stored.replaced:,} of them in the place of others" if stored.replaced else ""
    click.echo(f"{pluralize(stored.given, 'rate')} taken in{kept}; {stored.total:,} in all")
    echo_status('`fincon sql "FROM holder_totals"` reckons with them.')
