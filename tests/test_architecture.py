"""The house stands as drawn: who may import whom, and what stays out of ``transforms``. Read from the source."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fincon"

ROOMS: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("flows",),
    ("pipeline", "listen"),
    ("warehouse",),
    ("lake", "extract"),
    ("landing",),
    ("privacy",),
    ("settings",),
    ("storage",),
)
"""From the top down: a room imports from rooms below its own alone. Neither of two in one line imports from the other."""

EVERYWHERE = ("errors", "transforms")
"""What every room may import; they import nothing but each other."""

ONLY_FROM = {
    "sandbox": ("cli",),
    "prefect": ("flows",),
    "prefect_dask": ("flows",),
    "deltalake": ("lake", "pipeline"),
}
"""What may be imported from one room alone."""

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


def modules(room: str = "") -> dict[str, ast.Module]:
    """Every module of a room, or of all, parsed, by its full name."""
    found = {}
    for path in sorted(_files(PACKAGE / room if room else PACKAGE)):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = parsed(path)
    return found


@cache
def parsed(path: Path) -> ast.Module:
    """A module's tree, for one test after the other to read."""
    return ast.parse(path.read_text(), str(path))


def _files(place: Path) -> Iterator[Path]:
    """The Python files of a room, links followed, which ``rglob`` does not do."""
    if not place.is_dir():
        yield place.with_suffix(".py")
        return
    for path in place.iterdir():
        if path.suffix == ".py":
            yield path
        elif path.is_dir() and path.name != "__pycache__":
            yield from _files(path)


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


def room_of(name: str) -> str:
    """The room of a module of fincon; empty for the package itself, and for what is no part of it."""
    package, _, rest = name.partition(".")
    return rest.partition(".")[0] if package == "fincon" else ""


# -- transforms is pure


def test_transforms_imports_only_pure_modules_pyarrow_msgspec_and_itself():
    allowed = PURE | {"pyarrow", "msgspec"}
    found = {(name, i) for name, tree in modules("transforms").items() for i in imports(tree)}
    assert {
        (n, i) for n, i in found if i.split(".")[0] not in allowed and room_of(i) != "transforms"
    } == set()


def test_transforms_uses_no_part_of_pyarrow_that_does_io():
    parts = {
        i for _, tree in modules("transforms").items() for i in imports(tree) if i.startswith("pyarrow.")
    }
    assert parts <= {"pyarrow.compute"}


def test_transforms_calls_nothing_that_reaches_disk_clock_or_screen():
    assert {
        f"{name}: {c}" for name, tree in modules("transforms").items() for c in calls(tree) & IMPURE_CALLS
    } == set()


# -- the arrows


def test_every_file_and_folder_is_a_room_that_is_drawn():
    drawn = {room for line in ROOMS for room in line} | {*EVERYWHERE, "sandbox", "sql", "__init__", "py"}
    assert {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.name != "__pycache__"} - {
        "py.typed"
    } <= drawn


def test_imports_run_down_only():
    below: dict[str, set[str]] = {}
    for number, line in enumerate(ROOMS):
        for room in line:
            below[room] = {room, *EVERYWHERE, *(r for lower in ROOMS[number + 1 :] for r in lower)}
    below |= {room: set(EVERYWHERE) for room in EVERYWHERE}
    below["cli"] |= {"sandbox"}
    wrong = {
        f"{name} imports {i}"
        for name, tree in modules().items()
        if room_of(name) in below
        for i in imports(tree)
        if room_of(i) and room_of(i) not in below[room_of(name)] | {"connect", "__version__"}
    }
    assert wrong == set()


@pytest.mark.parametrize(("library", "rooms"), ONLY_FROM.items())
def test_what_belongs_to_one_room_is_imported_there_alone(library: str, rooms: tuple[str, ...]):
    of = f"fincon.{library}" if library == "sandbox" else library
    found = {
        room_of(name)
        for name, tree in modules().items()
        if room_of(name) != library and any(i == of or i.startswith(of + ".") for i in imports(tree))
    }
    assert found <= {*rooms}
    assert rooms[0] in found


def test_no_import_runs_in_a_circle():
    def reached(name: str, seen: tuple[str, ...]) -> None:
        assert name not in seen, " → ".join([*seen[seen.index(name) :], name])
        if name not in done:
            for other in sorted(edges.get(name, ())):
                reached(other, (*seen, name))
            done.add(name)

    trees = modules()
    edges = {
        name: {i for i in imports(tree) if i in trees and i not in {name, room_package(name)}}
        for name, tree in trees.items()
    }
    done: set[str] = set()
    for name in trees:
        reached(name, ())


def room_package(name: str) -> str:
    """The package that a module stands in."""
    return name.rpartition(".")[0]


def test_imports_are_absolute():
    """Prefect loads a flow file as a top-level module, in which a relative import fails."""
    assert {n for n, tree in modules().items() if any(i.startswith(".") for i in imports(tree))} == set()


def test_nothing_imports_tests_or_notebooks():
    found = {i.partition(".")[0] for tree in modules().values() for i in imports(tree)}
    assert found & {"tests", "notebooks", "flows", "transforms", "sandbox"} == set()


# -- the edge


def test_only_settings_reads_the_environment():
    assert {name for name, tree in modules().items() if reads_environment(tree)} == {"fincon.settings"}


def test_one_module_speaks_http():
    """What is sent to Stripe can be read in one place; the others bound how long an answer may take, and ask Prefect."""
    found = {
        n
        for n, tree in modules().items()
        if {i.split(".")[0] for i in imports(tree)} & HTTP and room_of(n) != "sandbox"
    }
    assert found == {
        "fincon.extract.client",
        "fincon.extract.timeouts",
        "fincon.flows.cancelling",
        "fincon.flows.sync",  # whose server may go away
    }


def test_the_product_sends_get_alone():
    """All that is sent is a copy of the one request that is prepared, whose method is written out."""
    client = modules("extract")["fincon.extract.client"]
    methods = [one.value for one in ast.walk(client) if isinstance(one, ast.keyword) and one.arg == "method"]
    assert [ast.literal_eval(method) for method in methods] == ["GET"]
    assert calls(client) & WRITING_CALLS == {"send"}
    sent = [one for one in ast.walk(client) if isinstance(one, ast.Attribute) and one.attr == "send"]
    assert [ast.unparse(one) for one in sent] == ["self._adapter.send"]
    assert "prepare" in calls(client)
    assert {"prepare_method", "setattr", "Request"} & calls(client) == set()
    named = [one for one in ast.walk(client) if isinstance(one, ast.Attribute) and one.attr == "method"]
    assert named == []


def test_no_file_or_folder_is_named_like_a_library():
    """Prefect puts ``flows/`` first on the path, where such a file would stand in the library's place."""
    path = [entry for entry in sys.path if Path(entry or ".").resolve() not in (ROOT, ROOT / "flows")]
    names = {p.name.removesuffix(".py") for p in (ROOT / "flows").iterdir()} - {"__init__", "__pycache__"}
    assert names
    assert names & set(sys.stdlib_module_names) == set()
    assert {name for name in names if PathFinder.find_spec(name, path)} == set()


def test_the_page_about_the_house_names_files_and_rooms_that_are_there():
    """``docs/architecture.md`` leads a newcomer; what it names in passing by its last names is found below some room."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.(?:py|json|md))`", page))
    there = [str(path.relative_to(ROOT)) for path in ROOT.glob("[a-z]*/**/*") if path.is_file()]
    assert len(named) > 20
    assert {name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in there)} == set()
    drawn = set(re.findall(r'\b([a-z]+)\["', page))
    assert drawn >= {room for line in ROOMS for room in line}


# -- the readers of source above see what they must


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import os.path", "os.path"),
        ("def f():\n    from fincon.lake import tables", "fincon.lake.tables"),
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
