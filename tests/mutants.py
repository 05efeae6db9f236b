"""Make mutants of the source at random, and run the quick tests of their room: who survives is told.

    python -m tests.mutants [--count 60] [--seed 1] [--seconds 120] [--room NAME]

Beside the table of `tests.mutations`, which says of chosen lines that a test notices: here a seed chooses among all comparisons,
numbers, conditions and statements of some modules. A mutant is made in a copy of the repository, one at a time. One that no
test notices may be a gap, or the same program: a person must look. Ends with 0 whoever survives, with 2 where tests fail without.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

OPPOSITES: dict[type[ast.cmpop], ast.cmpop] = {
    ast.Lt: ast.LtE(), ast.LtE: ast.Lt(), ast.Gt: ast.GtE(), ast.GtE: ast.Gt(), ast.Eq: ast.NotEq(),
    ast.NotEq: ast.Eq(), ast.In: ast.NotIn(), ast.NotIn: ast.In(), ast.Is: ast.IsNot(), ast.IsNot: ast.Is(),
}  # fmt: skip


@dataclass(frozen=True)
class Room:
    """Modules whose mutants are made, and the tests that are to notice."""

    modules: tuple[str, ...]
    tests: str


ROOMS = {
    "transforms": Room(
        ("transforms/[a-jl-rt-z]*.py", "transforms/sessions.py"),  # not what is data: known_attributes, schemas, streams
        " ".join(
            f"tests/transforms/test_{name}.py"
            for name in ("decode", "event_times", "flatten", "money", "personal", "redaction", "unknown_attributes")
        ),
    ),
    "paging": Room(
        tuple(f"fincon/extract/{name}.py" for name in ("pagination", "ranges", "accounts")),
        "tests/extract/test_listing.py tests/extract/test_hostile_answers.py tests/extract/test_hostile_api.py",
    ),
    "answers": Room(
        ("fincon/extract/events.py", "fincon/extract/responses.py"), "tests/extract tests/pipeline/test_guards.py"
    ),
    "lake": Room(
        ("fincon/lake/append.py", "fincon/lake/incremental.py"),
        "tests/pipeline/test_what_ends.py tests/pipeline/test_guards.py"
        " tests/extract/test_refused.py tests/pipeline/test_resume.py",
    ),
    "observations": Room(
        tuple(f"fincon/lake/{name}.py" for name in ("sightings", "absence", "version_sql")),
        "tests/lake tests/pipeline/test_guards.py tests/pipeline/test_what_ends.py tests/pipeline/test_observations.py",
    ),
    "erasure": Room(
        ("fincon/lake/erasure.py", "fincon/pipeline/erasing.py", "fincon/pipeline/erase.py", "fincon/privacy.py"),
        "tests/pipeline/test_erase.py tests/pipeline/test_rewrite_privacy.py tests/pipeline/test_maintenance.py",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A place in a module and what is put there."""

    path: str
    line: int
    start: int
    end: int
    """Columns, in characters of the line."""
    new: str

    def text(self) -> str:
        """The module with it."""
        lines = (ROOT / self.path).read_text(encoding="utf-8").splitlines(keepends=True)
        line = lines[self.line - 1]
        lines[self.line - 1] = line[: self.start] + self.new + line[self.end :]
        return "".join(lines)

    def __str__(self) -> str:
        line = (ROOT / self.path).read_text(encoding="utf-8").splitlines()[self.line - 1]
        return f"{self.path}:{self.line}: `{line[self.start : self.end]}` → `{self.new}`"


def changed(node: ast.AST) -> ast.AST | None:
    """What stands in the place of a node, if it can be mutated."""
    match node:
        case ast.Compare(ops=[one]):
            return ast.Compare(node.left, [OPPOSITES[type(one)]], node.comparators)
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            return ast.Constant(number + 1)
        case ast.BoolOp(op=op):
            return ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), node.values)
        case ast.UnaryOp(op=ast.Not()):
            return node.operand
        case ast.BinOp(op=ast.Add()):
            return ast.BinOp(node.left, ast.Sub(), node.right)
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Continue():
            return ast.Pass()
        case ast.Return(value=ast.Constant(value=bool(said))):
            return ast.Return(ast.Constant(not said))
    return None


def mutants(path: Path) -> Iterator[Mutant]:
    """Every mutant of a module, of places that are in one line."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        new = changed(node)
        if new is None or node.lineno != node.end_lineno:  # type: ignore[attr-defined]
            continue
        line = lines[node.lineno - 1].encode()  # type: ignore[attr-defined]
        start, end = (len(line[:at].decode()) for at in (node.col_offset, node.end_col_offset))  # type: ignore[attr-defined]
        told = ast.unparse(ast.fix_missing_locations(new))
        if isinstance(new, ast.expr) and not isinstance(new, ast.Constant):
            told = f"({told})"
        yield Mutant(str(path.relative_to(ROOT)), node.lineno, start, end, told)  # type: ignore[attr-defined]


def fate(copy: Path, tests: str, seconds: float) -> str:
    """What the tests of a room make of the copy: ``killed``, ``survived`` or ``out of time``."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider"]
    env = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        [*command, *tests.split()], cwd=copy, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            return "killed" if process.wait(seconds) else "survived"
        except subprocess.TimeoutExpired:
            process.kill()
            return "out of time"


def main() -> int:
    """Try some mutants of each room that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=60, help="how many, over all rooms")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--seconds", type=float, default=300, help="how long the tests may take; who is slower is killed"
    )
    parser.add_argument("--room", choices=ROOMS, action="append", help="of these rooms alone")
    asked = parser.parse_args()
    rooms = asked.room or list(ROOMS)
    dice, fates = random.Random(asked.seed), Counter[str]()  # noqa: S311 - a sample
    with tempfile.TemporaryDirectory(prefix="fincon-mutants-") as folder:
        copy = Path(folder) / "copy"
        left_out = shutil.ignore_patterns(".git", ".venv", "__pycache__", "data")
        shutil.copytree(ROOT, copy, symlinks=True, ignore=left_out)
        for name in rooms:
            room = ROOMS[name]
            paths = sorted({path for pattern in room.modules for path in ROOT.glob(pattern)})
            if fate(copy, room.tests, asked.seconds) != "survived":
                print(f"The quick tests of {name} do not pass as it is, or not in time.")  # noqa: T201
                return 2
            every = [mutant for path in paths for mutant in mutants(path)]
            for mutant in dice.sample(every, min(len(every), -(-asked.count // len(rooms)))):
                file = copy / mutant.path
                text = file.read_text(encoding="utf-8")
                file.write_text(mutant.text(), encoding="utf-8")
                found = fate(copy, room.tests, asked.seconds)
                file.write_text(text, encoding="utf-8")
                fates[found] += 1
                print(f"{found}: {mutant}", flush=True)  # noqa: T201 - what it is run for
    print(", ".join(f"{count} {found}" for found, count in sorted(fates.items())))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
