"""The dbt package under ``dbt/`` names what is published, and builds over the demo."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from tests.conftest import fincon

ROOT = Path(__file__).parents[1]
DBT = ROOT / "dbt"
MODELS = {path.stem: path.read_text() for path in (DBT / "models" / "questions").glob("*.sql")}
SOURCES = {
    table["name"]: [column["name"] for column in table.get("columns", ())]
    for table in yaml.safe_load((DBT / "models" / "sources.yml").read_text())["sources"][0]["tables"]
}


def test_each_source_of_the_dbt_package_is_a_view_that_is_published_with_the_columns_it_tests() -> None:
    chapters = (ROOT / "docs" / "data-dictionary.md").read_text().split("\n### ")
    published = {re.match(r"`?(\w+)", chapter)[1]: chapter for chapter in chapters[1:]}  # type: ignore[index]
    assert published.keys() >= SOURCES.keys()
    for name, columns in SOURCES.items():
        for column in columns:
            assert f"`{column}`" in published[name], (name, column)


def test_each_model_of_the_dbt_package_is_the_question_of_its_name() -> None:
    assert len(MODELS) > 30
    for name, query in MODELS.items():
        assert query == f"SELECT * FROM {{{{ source('fincon', '{name}') }}}}\n"
        assert name in SOURCES


@pytest.mark.slow
@pytest.mark.minutes
def test_the_dbt_package_builds_over_the_demo(tmp_path: Path) -> None:
    """In an environment of its own, as docs/dbt.md says; where that cannot be made, with no network say, it is skipped."""
    place = ROOT / ".venv" / "dbt"
    dbt = place / "bin" / "dbt"
    if not dbt.exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        wanted = ["dbt-core>=1.11,<1.12", "dbt-duckdb>=1.11,<1.12", f"duckdb=={version('duckdb')}"]
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", *wanted]
        installed = subprocess.run(pip, capture_output=True, text=True, check=False)
        if installed.returncode:
            pytest.skip(f"dbt cannot be installed here: {installed.stderr.strip().splitlines()[-1]}")
    assert fincon("demo", "--accounts", "40", "--data", "data", cwd=tmp_path).returncode == 0
    env = {
        **os.environ,
        "FINCON_DATA": str(tmp_path / "data"),
        "DBT_TARGET_PATH": str(tmp_path / "target"),
        "DBT_LOG_PATH": str(tmp_path / "logs"),
    }
    for what in (["build"], ["source", "freshness"]):
        command = [str(dbt), *what, "--project-dir", str(DBT), "--profiles-dir", str(DBT)]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        assert "ERROR=0" in done.stdout or "PASS freshness of fincon.runs" in done.stdout
