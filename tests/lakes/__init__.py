"""Small lakes of earlier commits, as those left them; `make.py` made them."""

import json
import tarfile
from pathlib import Path
from typing import Any

import duckdb

HERE = Path(__file__).resolve().parent
COMMITS = ("41fa4b9", "46aaf28", "9295f19", "b98723b")
PII_KEY = "a-key-for-tests-alone"


def place(commit: str, data: Path) -> Path:
    """Put the commit's lake into the folder ``data``, with ``fincon.duckdb`` as the commit makes it there; ``data``."""
    with tarfile.open(HERE / commit / "data.tar.xz") as archive:
        archive.extractall(data, filter="data")
    views = (data / "views.sql").read_text(encoding="utf-8").replace("@DATA@", str(data))
    (data / "views.sql").unlink()
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{data / 'fincon.duckdb'}' AS warehouse (STORAGE_VERSION 'v1.2.0')")
        connection.execute("USE warehouse; SET TimeZone = 'UTC'")
        connection.execute(views)
        connection.execute("USE memory; DETACH warehouse")
    return data


def answers(commit: str) -> dict[str, Any]:
    """What the commit answered: ``logs``, ``versions`` (how many) and ``as_of`` (time → table → columns and rows)."""
    found: dict[str, Any] = json.loads((HERE / commit / "answers.json").read_text(encoding="utf-8"))
    return found
