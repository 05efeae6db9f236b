"""The naive way: page with requests, flatten with pandas, write one Parquet file. Arguments: URL, folder."""

import json
import resource
import sys
import time

import pandas as pd
import requests

url, folder = sys.argv[1:]
start, start_cpu = time.monotonic(), time.process_time()
session = requests.Session()
session.headers["Authorization"] = "Bearer sk_test_benchmark"
rows: list[dict[str, object]] = []
query: dict[str, str] = {"limit": "100"}
while True:
    page = session.get(f"{url}/v1/financial_connections/accounts", params=query, timeout=30).json()
    rows += page["data"]
    if not page["has_more"]:
        break
    query["starting_after"] = page["data"][-1]["id"]
pd.json_normalize(rows).to_parquet(f"{folder}/accounts.parquet")
figures = {
    "rows": len(rows),
    "wall s": round(time.monotonic() - start, 2),
    "CPU s": round(time.process_time() - start_cpu, 2),
    "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
}
print(json.dumps(figures))  # noqa: T201
