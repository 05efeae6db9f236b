"""The house stands as drawn: who may import whom, and what stays out of ``transforms``. Read from the source."""

import ast
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = ("flows", "transforms", "sandbox")
EDGE = ("stripe_api", "pages", "lake", "warehouse", "settings")
"""The modules of ``flows`` that each know one outside thing, and nothing of each other."""

SHARED = {"fincon.settings", "fincon.errors"}

PURE = {
    *("abc", "bisect", "collections", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools"),
    *("hashlib", "heapq", "hmac", "itertools", "json", "math", "operator", "re", "string", "types", "typing"),
}
"""What ``transforms`` may take from the standard library: nothing that reads, writes or waits."""

IMPURE_CALLS = {
    *("open", "print", "input", "now", "utcnow", "today", "time"),
    *("exec", "eval", "__import__", "import_module"),
    *("input_stream", "output_stream", "memory_map", "OSFile"),
}
"""Names of calls that reach the disk, the clock or the screen; the last line is pyarrow's."""

WRITING_CALLS = {"post", "put", "delete", "patch", "request", "send"}
"""Calls of requests that can send something else than ``GET``."""

HTTP = {"requests", "urllib3", "http", "httpx", "aiohttp"}


def modules(package: str) -> dict[str, ast.Module]:
    """Every module of a package, parsed, by its full name."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(), str(path))
    return found


def imports(tree: ast.AST) -> set[str]:
    """What a module imports, wherever in it: ``a.b`` for ``import a.b``, ``a`` and ``a.b`` for ``from a import b``."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            found |= {start, *(f"{start}.{alias.name}" for alias in node.names)}
    return found


def calls(tree: ast.AST) -> set[str]:
    """The last name of each call: ``now`` for ``datetime.now()``."""
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {f.attr for f in functions if isinstance(f, ast.Attribute)} | {
        f.id for f in functions if isinstance(f, ast.Name)
    }


def reads_environment(tree: ast.AST) -> bool:
    """Whether a module uses ``os.environ`` or ``os.getenv``, by whatever import."""
    used = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    names = {f"os.{name}" for name in ("environ", "environb", "getenv", "getenvb", "putenv")}
    return bool(names & (used | imports(tree)))


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def each(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    for package in packages:
        yield from modules(package).items()


def importers(of: str, *packages: str) -> set[str]:
    return {name for name, tree in each(*packages) if any(within(i, of) for i in imports(tree))}


# -- transforms is pure


def test_transforms_imports_only_pure_modules_pyarrow_msgspec_and_itself():
    allowed = PURE | {"transforms", "pyarrow", "msgspec"}
    found = {f"{name}: {i}" for name, tree in each("transforms") for i in imports(tree)}
    assert {line for line in found if line.split(": ")[1].split(".")[0] not in allowed} == set()


def test_transforms_uses_no_part_of_pyarrow_that_does_io():
    parts = {i for _, tree in each("transforms") for i in imports(tree) if i.startswith("pyarrow.")}
    assert parts <= {"pyarrow.compute"}


def test_transforms_calls_nothing_that_reaches_disk_clock_or_screen():
    assert {f"{name}: {c}" for name, tree in each("transforms") for c in calls(tree) & IMPURE_CALLS} == set()


# -- the arrows


def test_imports_are_absolute():
    """Prefect loads a flow file as a top-level module, in which a relative import fails."""
    assert {n for n, tree in each(*PRODUCT) if any(i.startswith(".") for i in imports(tree))} == set()


def test_transforms_imports_neither_flows_nor_sandbox():
    assert importers("flows", "transforms") | importers("sandbox", "transforms") == set()


@pytest.mark.parametrize("module", EDGE)
def test_a_module_of_the_edge_knows_no_other_and_nothing_above_it(module: str):
    """Settings and errors aside, which all may use; ``settings`` itself uses no more than errors."""
    others = {f"flows.{other}" for other in EDGE if other != module} - SHARED
    above = {f"flows.{name}" for name in ("cli", "show", "sync", "steps", "runs", "fetch")}
    found = imports(modules("flows")[f"flows.{module}"])
    assert {i for i in found if any(within(i, other) for other in others | above)} == set()


def test_nothing_imports_the_command_line():
    assert {name for name in importers("fincon.cli", *PRODUCT) if not within(name, "fincon.cli")} == set()


def test_nothing_imports_tests_or_notebooks():
    assert importers("tests", *PRODUCT) | importers("notebooks", *PRODUCT) == set()


def test_the_product_reaches_the_sandbox_only_from_the_command_line():
    assert importers("sandbox", "flows", "transforms") == {"fincon.cli.demo"}


# -- the edge


def test_only_settings_reads_the_environment():
    assert {name for name, tree in each(*PRODUCT) if reads_environment(tree)} == {"fincon.settings"}


def test_one_module_speaks_http():
    """What is sent to Stripe can be read in one place; the other only bounds how long an answer may take."""
    found = {name for name, tree in each("flows") if {i.split(".")[0] for i in imports(tree)} & HTTP}
    assert found == {"fincon.extract.client", "fincon.extract.timeouts"}


def test_the_product_sends_get_alone():
    found = calls(modules("flows")["fincon.extract.client"])
    assert "get" in found
    assert found & WRITING_CALLS == set()


def test_no_file_in_flows_is_named_like_a_library():
    """Prefect puts ``flows/`` first on the path, where such a file would stand in the library's place."""
    path = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT / "flows"]
    stems = {file.stem for file in (ROOT / "flows").glob("*.py")} - {"__init__"}
    assert stems
    assert stems & set(sys.stdlib_module_names) == set()
    assert {stem for stem in stems if PathFinder.find_spec(stem, path)} == set()


# -- the readers of source above see what they must


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import os.path", "os.path"),
        ("def f():\n    from flows import lake", "fincon.lake.tables"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import duckdb", "duckdb"),
        ("from . import lake", "..lake"),
        ("from pyarrow import fs", "pyarrow.fs"),
    ],
)
def test_an_import_is_seen_wherever_it_stands(source: str, name: str):
    assert name in imports(ast.parse(source))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("open('x')", "open"),
        ("datetime.datetime.now(UTC)", "now"),
        ("[print(x) for x in y]", "print"),
        ("self._http.post(url)", "post"),
    ],
)
def test_a_call_is_seen_wherever_it_stands(source: str, name: str):
    assert name in calls(ast.parse(source))


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("import os\nos.environ['X']", True),
        ("import os\nos.getenv('X')", True),
        ("from os import environ", True),
        ("import os\nos.fsync(1)", False),
        ("environ = {}", False),
    ],
)
def test_a_read_of_the_environment_is_seen(source: str, reads: bool):
    assert reads_environment(ast.parse(source)) is reads
