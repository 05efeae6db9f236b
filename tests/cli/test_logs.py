"""What a run tells machines: a log with levels, times and run ids; metrics; a ping."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import environ, rows, sync
from tests.scripted_stripe import Answer, ScriptedStripe, account, serving
from tests.typed import typed

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING|ERROR) +(\d{8}T\S+ )?\S.*")


@pytest.fixture
def stripe() -> Iterator[ScriptedStripe]:
    """Every second answer is that it is too busy; ids stand in what is asked for."""
    with serving(ScriptedStripe(accounts=[account(f"fca_{n:03}") for n in range(150)])) as served:

        def busy(path: str, query: object) -> Answer | None:
            slow = {"error": {"type": "invalid_request_error", "message": "slow"}}
            return Answer(slow, 429) if len(served.requests) % 2 == 0 else None

        served.intercept = busy
        yield served


@contextmanager
def receiver(status: int = 200) -> Iterator[tuple[str, list[str]]]:
    """A server of one's own: its address, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_without_being_asked_no_log_is_written_but_trouble_is_counted(
    stripe: ScriptedStripe, tmp_path: Path
) -> None:
    done = typed("sync", cwd=tmp_path, env=environ(stripe.url))
    assert done.code == 0
    [line] = done.err.splitlines()
    assert re.search(r"requests? \(1 tried again, 1 throttled\)", line)


def test_a_log_has_levels_times_and_the_run_and_names_nobody(stripe: ScriptedStripe, tmp_path: Path) -> None:
    done = typed("sync", "--quiet", cwd=tmp_path, env=environ(stripe.url, FINCON_LOG="info"))
    lines = done.err.splitlines()
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    [warned] = [line for line in lines if " WARNING " in line]
    assert "429" in warned
    run_id = next(iter((tmp_path / "data" / "pages").iterdir())).name
    assert run_id in warned
    assert "fca_0" not in done.err


def test_json_is_one_object_a_line_and_has_the_error_of_a_run(tmp_path: Path) -> None:
    env = {"STRIPE_API_KEY": "sk_test_x", "STRIPE_API_BASE": "http://127.0.0.1:1"}
    done = typed("sync", "--quiet", "--log-format", "json", cwd=tmp_path, env=env)
    assert done.code == 1
    *logged, first, second = done.err.splitlines()
    assert first.startswith("fincon: GET ")
    assert second.startswith("        Nothing answers at")
    found = [json.loads(line) for line in logged]
    assert [one["level"] for one in found].count("warning") == 2
    assert found[-1]["level"] == "error"
    assert all(one["time"].endswith("Z") for one in found)


def test_a_wrong_level_is_told_before_anything_is_done(tmp_path: Path) -> None:
    done = typed("sync", cwd=tmp_path, env={"FINCON_LOG": "loud"})
    assert done.code == 2
    assert "debug, info, warning, error" in done.err


def test_metrics_say_how_the_run_went_and_how_old_each_table_is(
    stripe: ScriptedStripe, tmp_path: Path
) -> None:
    file = tmp_path / "metrics" / "fincon.prom"
    env = environ(stripe.url, FINCON_METRICS=str(file))
    typed("sync", cwd=tmp_path, env=env)
    found = samples(file)
    assert found["fincon_last_run_success"] == 1
    assert found["fincon_last_run_retries"] == found["fincon_last_run_throttled"] == 1
    assert found["fincon_requests_total"] == found["fincon_last_run_requests"] == len(stripe.requests)
    assert found["fincon_rows_added_total"] == found["fincon_last_run_rows_added"] > 0
    assert found["fincon_attempts_total succeeded"] == 1
    assert 0 <= found["fincon_table_age_seconds accounts"] < 600
    assert "fincon_table_age_seconds transactions" not in found
    assert any(name.startswith("fincon_last_run_stage_seconds ") for name in found)
    stripe.intercept = lambda path, query: Answer({"error": {"message": "no"}}, 401)
    assert typed("sync", cwd=tmp_path, env=env).code == 1
    found = samples(file)
    assert (found["fincon_last_run_success"], found["fincon_attempts_total failed"]) == (0, 1)


def samples(file: Path) -> dict[str, float]:
    """Metric and label → value, as Prometheus reads them."""
    families = text_string_to_metric_families(file.read_text())
    return {" ".join([s.name, *s.labels.values()]): s.value for family in families for s in family.samples}


def test_opentelemetry_is_given_the_same_where_its_sdk_is_set_up(
    stripe: ScriptedStripe, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file need be named. `opentelemetry-instrument` sets a provider up as is done here."""
    sdk = pytest.importorskip("opentelemetry.sdk.metrics", reason="the SDK of OpenTelemetry is not installed")
    export = pytest.importorskip("opentelemetry.sdk.metrics.export")
    from opentelemetry.metrics import _internal

    reader = export.InMemoryMetricReader()
    monkeypatch.setattr(_internal, "_METER_PROVIDER", sdk.MeterProvider([reader]))
    sync(stripe.url, data)
    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    assert scope.scope.name == "fincon"
    found = {
        (metric.name, *point.attributes.values()): point.value
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    assert found["fincon.last.run.success",] == 1
    assert found["fincon.last.run.rows.added",] == rows(data, "FROM runs")[0]["rows_added"]
    assert found["fincon.attempts.total", "succeeded"] == 1
    assert ("fincon.table.age.seconds", "accounts") in found


def test_a_ping_follows_success_alone_and_its_address_is_in_no_line(
    stripe: ScriptedStripe, tmp_path: Path
) -> None:
    stripe.intercept = lambda path, query: None
    with receiver() as (url, asked):
        env = environ(stripe.url, FINCON_PING_URL=f"{url}/secret-uuid", FINCON_LOG="debug")
        done = typed("sync", cwd=tmp_path, env=env)
        assert (done.code, asked) == (0, ["/secret-uuid"])
        stripe.intercept = lambda path, query: Answer({"error": {"message": "no"}}, 401)
        failed = typed("sync", cwd=tmp_path, env=env)
        assert (failed.code, asked) == (1, ["/secret-uuid"])
    assert "secret-uuid" not in done.err + failed.err


@pytest.mark.slow
def test_a_receiver_in_trouble_fails_no_sync(stripe: ScriptedStripe, tmp_path: Path) -> None:
    stripe.intercept = lambda path, query: None
    with receiver(503) as (url, asked):
        env = environ(stripe.url, FINCON_PING_URL=f"{url}/secret-uuid", FINCON_LOG="warning")
        done = typed("sync", "--quiet", cwd=tmp_path, env=env)
    assert (done.code, len(asked)) == (0, 3)
    assert "FINCON_PING_URL was not reached in 3 tries: status 503" in done.err
    assert "secret-uuid" not in done.err
