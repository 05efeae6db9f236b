"""Take out what guards a number, one line at a time, and run the tests that are there to notice: who survives is told.

    python -m tests.mutations [--list] [WORD ...]

Each mutation is made in a copy of the repository, by a replacement of text; words choose those whose name has one of them.
Ends with 1 if one survives, or does not apply any more.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
GUARDS = "tests/pipeline/test_guards.py"


@dataclass(frozen=True)
class Mutation:
    """What is broken, by putting ``new`` for ``old`` in a file; and the tests that must fail then."""

    name: str
    path: str
    old: str
    new: str
    tests: str = GUARDS


MUTATIONS = (
    Mutation(
        "no check step in a sync",
        "fincon/pipeline/sync.py",
        'ctx.run_step("check", failed_checks_of_sync, ctx.data, files)',
        "{}",
    ),
    Mutation(
        "complete_until as max",
        "fincon/landing/page_store.py",
        "return min((header.observed_at for header in answers), default=None)",
        "return max((header.observed_at for header in answers), default=None)",
    ),
    Mutation(
        "pages against rows not compared in a run",
        "fincon/pipeline/load_step.py",
        "    agree_with_pages(ctx.lake, on_pages, origin, ctx.staging)\n",
        "",
    ),
    Mutation(
        "the run against the lake not compared",
        "fincon/lake/append.py",
        "    _reconcile(lake, balances, origins)\n",
        "",
    ),
    Mutation(
        "no overlap of events",
        "transforms/streams.py",
        "EVENTS_OVERLAP = timedelta(minutes=5)",
        "EVENTS_OVERLAP = timedelta(0)",
    ),
    Mutation(
        "valid_to two seconds off",
        "sql/templates/history.sql",
        ") AS valid_to",
        ") - INTERVAL 2 SECOND AS valid_to",
    ),
    Mutation(
        "the lease is not renewed by its thread",
        "fincon/storage/lease.py",
        "                self.renew()\n\n    def release",
        "                pass\n\n    def release",
        "tests/storage/test_s3.py -k renewed_by_its_thread",
    ),
    Mutation(
        "late rows compared with the latest alone",
        "fincon/lake/append.py",
        "FROM {table_sql(table, now.all, f'{semi_join_objects(table, staged)} WHERE {whose}')}\"",
        "FROM ({now.sql(table, f'{semi_join_objects(table, staged)} WHERE {whose}')})\"",
    ),
    Mutation(
        "no fsync",
        "fincon/storage/data_folder.py",
        "        os.fsync(written.fileno())\n",
        "        written.fileno()\n",
    ),
    Mutation(
        "no fsync of the folder after a rename",
        "fincon/storage/data_folder.py",
        "    part.replace(path)\n    sync_names(path.parent)\n",
        "    part.replace(path)\n",
    ),
    Mutation(
        "interrupted runs kept through an erasure",
        "fincon/pipeline/erase.py",
        "        _drop_unfinished(data, lake)\n",
        "",
    ),
)


def killed(mutation: Mutation, copy: Path) -> bool:
    """Make the mutation in the copy, and tell whether a test notices.

    Raises:
        ValueError: the text is not there, or more than once.
    """
    file = copy / mutation.path
    text = file.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.path} has its text {text.count(mutation.old)} times")
    file.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, *mutation.tests.split()],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
    finally:
        file.write_text(text, encoding="utf-8")
    if done.returncode > 1:
        raise ValueError(f"no test of {mutation.tests} ran: {done.stdout[-500:]}{done.stderr[-500:]}")
    return done.returncode == 1


def main() -> int:
    """Try the mutations that are asked for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("words", nargs="*", help="parts of the names of those to try; all without one")
    parser.add_argument("--list", action="store_true", help="name them, and try none")
    asked = parser.parse_args()
    chosen = [m for m in MUTATIONS if not asked.words or any(word in m.name for word in asked.words)]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="fincon-mutations-") as folder:
        copy = Path(folder) / "copy"
        if not asked.list:
            left_out = shutil.ignore_patterns(".git", ".venv", "__pycache__", "data")
            shutil.copytree(ROOT, copy, symlinks=True, ignore=left_out)
        for mutation in chosen:
            try:
                told = "" if asked.list else "killed: " if killed(mutation, copy) else "SURVIVED: "
            except ValueError as error:
                told = f"NOT TRIED ({error}): "
            survivors += told.startswith(("SURVIVED", "NOT"))
            print(f"{told}{mutation.name}", flush=True)  # noqa: T201 - what it is run for
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
