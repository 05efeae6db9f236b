"""dlt's REST source to Parquet files or to DuckDB. Runs in the peers' environment. Arguments: URL, folder, destination.

Its best configuration on two cores, as far as we could find: workers that each take half of the files to
normalize, buffers and files large enough to be worth it, Parquet all the way, telemetry off.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

url, folder, where = sys.argv[1:4]
OPTIONS = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "DLT_DATA_DIR": folder,
    "EXTRACT__WORKERS": "2",
    "SOURCES__DATA_WRITER__BUFFER_MAX_ITEMS": "5000",
    "SOURCES__DATA_WRITER__FILE_MAX_ITEMS": "5000",
    "NORMALIZE__WORKERS": "2",
    "NORMALIZE__DATA_WRITER__BUFFER_MAX_ITEMS": "5000",
    "NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION": "true",
    "LOAD__WORKERS": "2",
}
for name, value in OPTIONS.items():
    os.environ.setdefault(name, value)

import dlt  # noqa: E402
from dlt.sources.rest_api import rest_api_source  # noqa: E402


def cpu() -> float:
    """CPU seconds of this process and of the workers that have ended."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    """Load the listing of accounts."""
    start, start_cpu = time.monotonic(), cpu()
    source = rest_api_source(
        {
            "client": {
                "base_url": f"{url}/v1/financial_connections/",
                "auth": {"type": "bearer", "token": "sk_test_benchmark"},
                "paginator": {
                    "type": "cursor",
                    "cursor_path": "data[-1].id",
                    "cursor_param": "starting_after",
                    "has_more_path": "has_more",
                },
            },
            "resources": [
                {
                    "name": "accounts",
                    "endpoint": {"path": "accounts", "params": {"limit": 100}, "data_selector": "data"},
                }
            ],
        }
    )
    if where == "duckdb":
        destination = dlt.destinations.duckdb(f"{folder}/accounts.duckdb")
    else:
        destination = dlt.destinations.filesystem(Path(folder, "files").as_uri())
    pipeline = dlt.pipeline("accounts", destination=destination, dataset_name="stripe", pipelines_dir=folder)
    pipeline.run(source, loader_file_format="parquet").raise_on_failed_jobs()
    trace = {
        step.step: round((step.finished_at - step.started_at).total_seconds(), 2)
        for step in pipeline.last_trace.steps
    }
    figures = {
        "rows": pipeline.last_trace.last_normalize_info.row_counts["accounts"],
        "wall s": round(time.monotonic() - start, 2),
        "CPU s": round(cpu() - start_cpu, 2),
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "steps": trace,
    }
    print(json.dumps(figures))  # noqa: T201


if __name__ == "__main__":
    main()
