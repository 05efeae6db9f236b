"""What Stripe sends and fincon does not know is seen: by name, place and type, never by value."""

import json
from pathlib import Path

import pytest

from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from tests.conftest import environ, settings_for
from tests.scripted_stripe import ScriptedStripe, account, serving
from tests.typed import typed

VALUE = "Value-that-nobody-shows"


@pytest.mark.slow
def test_status_check_and_the_report_name_an_attribute_and_show_no_value(data: Path) -> None:
    accounts = [account("fca_1", mood=VALUE), account("fca_2", mood=VALUE), account("fca_3")]
    with serving(ScriptedStripe(accounts=accounts)) as stripe:
        run_sync(settings_for(stripe.url, data), SyncRequest())
        where, env = data.parent, environ(stripe.url)
        shown = {
            name: typed(*name.split(), "--data", str(data), cwd=where, env=env)
            for name in ("status", "status --json", "check", "report --output report.html")
        }
    assert [done.code for done in shown.values()] == [0, 0, 0, 0], shown
    report = (where / "report.html").read_text(encoding="utf-8")
    [one] = json.loads(shown["status --json"].out)["unknown_attributes"]
    assert (one["table_name"], one["attribute"], one["objects"], one["example_type"]) == (
        "accounts",
        "mood",
        2,
        "varchar",
    )
    assert f"accounts: mood (varchar) on 2 since {one['first_seen'].replace('T', ' ')}" in shown["status"].out
    assert "accounts: mood (varchar) on 2 since" in shown["check"].out
    assert "mood" in report
    assert VALUE not in report + "".join(done.out + done.err for done in shown.values())


def test_nothing_is_named_where_all_is_known(data: Path) -> None:
    with serving(ScriptedStripe(accounts=[account("fca_1")])) as stripe:
        run_sync(settings_for(stripe.url, data), SyncRequest())
    shown = typed("status", "--data", str(data), cwd=data.parent).out
    assert "Attributes that this fincon does not know: 0\n" in shown
