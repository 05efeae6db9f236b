"""What a monitoring system asks of a lake after a run: counts, seconds and ages, as Prometheus and OpenTelemetry have them."""

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from fincon.storage.data_folder import DataFolder, atomic_write
from fincon.storage.s3 import DataPath
from fincon.warehouse.connection import connect
from fincon.warehouse.status import last_synced, pending_attempts

ATTEMPTS = """
SELECT status, count(DISTINCT (attempt_id, run_id))::BIGINT AS attempts,
    sum(requests)::BIGINT AS requests, sum(retries)::BIGINT AS retries, sum(throttled)::BIGINT AS throttled
FROM attempts GROUP BY ALL ORDER BY ALL"""

COUNTED = ("requests", "retries", "throttled")

MEANINGS = {
    "fincon_attempts_total": "Attempts at a run that are on record, by how they ended.",
    "fincon_requests_total": "Requests sent to Stripe, by all attempts on record.",
    "fincon_retries_total": "Requests that were sent again, likewise.",
    "fincon_throttled_total": "Answers 429, likewise.",
    "fincon_rows_added_total": "Rows added to the tables by all runs.",
    "fincon_rejected_total": "Objects that could not be read, in all runs.",
    "fincon_last_run_success": "Whether the last run succeeded: 1, else 0.",
    "fincon_last_run_timestamp_seconds": "When the last run ended, in Unix seconds.",
    "fincon_last_run_requests": "Requests of the last run.",
    "fincon_last_run_retries": "Requests that the last run sent again.",
    "fincon_last_run_throttled": "Answers 429 to the last run.",
    "fincon_last_run_rows_added": "Rows that the last run added.",
    "fincon_last_run_rejected": "Objects that the last run could not read.",
    "fincon_last_run_stage_seconds": "How long each stage of the last run took.",
    "fincon_last_run_checks_failed": "Checks that found rows after the last run.",
    "fincon_table_synced_timestamp_seconds": "When the last run began that read the table, in Unix seconds.",
    "fincon_table_age_seconds": "How long ago that was when this was written; time() - …_synced_timestamp_seconds is that now.",
}
"""Metric → what it means. Those that end in ``_total`` only grow."""


@dataclass(frozen=True, kw_only=True)
class LastRun:
    """How the run ended of which the metrics tell."""

    succeeded: bool
    counts: Mapping[str, int] = field(default_factory=dict)
    """``requests``, ``retries``, ``throttled``, ``rows_added``, ``rejected``."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Stage → how long it took."""
    checks_failed: int = 0


Sample = tuple[str, dict[str, str], float]
"""Metric, labels, value."""


def samples(data: DataPath, run: LastRun) -> Iterator[Sample]:
    """Yield what is measured, in the order of `MEANINGS` within each source."""
    now = datetime.now(UTC)
    yield "fincon_last_run_success", {}, float(run.succeeded)
    yield "fincon_last_run_timestamp_seconds", {}, now.timestamp()
    for name in ("requests", "retries", "throttled", "rows_added", "rejected"):
        yield f"fincon_last_run_{name}", {}, run.counts.get(name, 0)
    for stage, took in run.seconds.items():
        yield "fincon_last_run_stage_seconds", {"stage": stage}, took
    yield "fincon_last_run_checks_failed", {}, run.checks_failed
    if DataFolder(data).views.exists():
        yield from _of_lake(data, now)


def _of_lake(data: DataPath, now: datetime) -> Iterator[Sample]:
    with connect(data) as views:
        attempts: dict[str, dict[str, int]] = {
            status: {"attempts": count, **dict(zip(COUNTED, counts, strict=True))}
            for status, count, *counts in views.execute(ATTEMPTS).fetchall()
        }
        for one in pending_attempts(data, views):
            of = attempts.setdefault(one.status, dict.fromkeys(("attempts", *COUNTED), 0))
            of["attempts"] += 1
            for name in COUNTED:
                of[name] += one.counts.get(name, 0)
        rows = views.execute("SELECT sum(rows_added)::BIGINT, sum(rejected)::BIGINT FROM runs").fetchall()[0]
        synced = last_synced(views)
    for status, of in attempts.items():
        yield "fincon_attempts_total", {"status": status}, of["attempts"]
    for name in COUNTED:
        yield f"fincon_{name}_total", {}, sum(of[name] for of in attempts.values())
    for name, value in zip(("rows_added", "rejected"), rows, strict=True):
        yield f"fincon_{name}_total", {}, value or 0
    for table, since in synced.items():
        if table:
            yield "fincon_table_synced_timestamp_seconds", {"table": table}, since.timestamp()
            yield "fincon_table_age_seconds", {"table": table}, (now - since).total_seconds()


def write_prometheus(found: list[Sample], path: Path) -> None:
    """Write the file that node_exporter's textfile collector reads; it is replaced whole."""
    lines = []
    for name, meaning in MEANINGS.items():
        if not any(metric == name for metric, _, _ in found):
            continue
        kind = "counter" if name.endswith("_total") else "gauge"
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
        for metric, labels, value in found:
            if metric == name:
                told = ",".join(f'{label}="{said}"' for label, said in labels.items())
                lines.append(f"{name}{{{told}}} {value:.15g}" if told else f"{name} {value:.15g}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    path.chmod(0o644)  # another user's exporter reads it, and nothing in it is anybody's


def takes_opentelemetry() -> bool:
    """Tell whether OpenTelemetry's SDK is installed and was set up, as `opentelemetry-instrument fincon sync` does."""
    if not importlib.util.find_spec("opentelemetry.sdk"):
        return False
    from opentelemetry import metrics

    return type(metrics.get_meter_provider()).__module__.startswith("opentelemetry.sdk.")


def send_opentelemetry(found: list[Sample]) -> None:
    """Give what is measured to OpenTelemetry, which `takes_opentelemetry`."""
    from opentelemetry import metrics

    meter = metrics.get_meter("fincon")
    for name, meaning in MEANINGS.items():
        gauge = meter.create_gauge(name.replace("_", "."), description=meaning)
        for metric, labels, value in found:
            if metric == name:
                gauge.set(value, labels)
    flush = getattr(metrics.get_meter_provider(), "force_flush", None)
    if flush:  # the process ends before the next export would be due
        flush()
