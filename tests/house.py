"""Prints how the house is built, as `docs/architecture.md` shows it: `python -m tests.house [FOLDER …]`.

Each folder is a checkout, by default this one; their figures stand side by side.
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

ROOMS = ("fincon", "flows", "transforms")
"""The product. The sandbox, SQL and tests are counted by nobody here."""

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

VERBS = frozenset(
    """
    absorb accept acquire act adapt add advance aggregate allow announce answer append apply ask assign
    attach begin bind block break bring build call cancel carry catch check choose claim classify clean
    clear close collect combine come commit compact compare complete compute connect consume contain
    convert copy count cover create cut deal decide declare decode decorate define delete deliver derive
    describe detach determine discard divide do download draw drop emit empty encode end enforce ensure
    enter erase estimate evaluate execute exit expand expect explain export expose express extend extract
    fail fence fetch fill filter find finish flatten flush fold follow forget format free gather generate
    get give go group guess halve hand hash have hide hold identify ignore import include increment infer insert
    inspect install interpret invoke join keep kill launch lay lead leave let link list load lock look
    lower make map mark match measure merge migrate move name need normalize note notice obtain offer open
    pack parse pass pause pick place plan poll prepare print produce promise protect prove provide prune
    publish push put quote raise read rebuild receive recognize record recover redact reduce refuse
    register reject release reload remember remove rename render renew repeat replace replay reply require
    reserve reset resolve restore resume retry return revoke rewrite round run save say scan search see
    select send serve set settle shorten show shut silence skip slow sort spend split spread stand start
    stop store submit subtract sum summarize swap sync take tell terminate throw tidy touch trace track
    translate treat report guard trim truncate try turn undo unify unlock unpack update upgrade upload use validate
    verify visit wait walk warn weigh wrap write yield
    """.split()  # noqa: SIM905 - words, not a column of quotes
)
"""Verbs of this house and the usual ones. A word that is a noun too counts as the verb that it is at a docstring's beginning."""


def modules(folder: Path) -> dict[Path, str]:
    """Return the text of each module of the product; through a link nothing is counted twice."""
    paths = (path for room in ROOMS for path in sorted((folder / room).rglob("*.py")))
    return {path: path.read_text(encoding="utf-8") for path in paths if "__pycache__" not in path.parts}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method, those within others too."""
    return (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS))


def parameter_count(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the parameters that a caller gives: neither ``self`` nor ``cls``."""
    given = function.args
    names = [
        one.arg
        for one in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg)
        if one
    ]
    return len([name for name in names if name not in ("self", "cls")])


def begins_with_verb(docstring: str) -> bool:
    """Tell whether the first word is one of `VERBS`."""
    return docstring.split()[0].strip(".,:;").lower() in VERBS


def comment_lines(text: str) -> int:
    """Count the lines with a comment for a person: what ruff, mypy and formatters are told is none."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    for_tools = ("# noqa", "# type:", "# fmt:", "#!")
    said = (token.string for token in tokens if token.type == tokenize.COMMENT)
    return sum(not comment.startswith(for_tools) for comment in said)


def inner_imports(tree: ast.AST) -> int:
    """Count the imports within functions."""
    found = {
        node
        for function in functions(tree)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    return len(found)


def measures(folder: Path) -> dict[str, str]:
    """Return the figures of a checkout, by their names."""
    texts = modules(folder)
    if not texts:
        raise SystemExit(f"{folder} is no checkout of this project: it holds none of {', '.join(ROOMS)}.")
    trees = [ast.parse(text) for text in texts.values()]
    every = [function for tree in trees for function in functions(tree)]
    lengths = [(function.end_lineno or 0) - function.lineno + 1 for function in every]
    docstrings = [found for function in every if (found := ast.get_docstring(function))]
    folders = Counter(str(path.parent.relative_to(folder)) for path in texts)
    lines = sum(text.count("\n") for text in texts.values())
    comments = sum(map(comment_lines, texts.values()))
    largest, count = folders.most_common(1)[0]
    long = [path for path, text in texts.items() if text.count("\n") > 350]
    return {
        "modules": f"{len(texts)}",
        "largest folder, modules": f"{largest}/, {count}",
        "lines": f"{lines:,}",
        "modules of more than 350 lines": f"{len(long)}",
        "functions": f"{len(every)}",
        "lines of a function, median": f"{median(lengths):.0f}",
        "lines of a function, 90th percentile": f"{quantiles(lengths, n=10)[-1]:.0f}",
        "functions of more than five parameters": f"{sum(parameter_count(one) > 5 for one in every)}",
        "docstrings that begin with a verb": f"{sum(map(begins_with_verb, docstrings)) / len(docstrings):.0%}",
        "lines with a comment": f"{comments / lines:.1%}",
        "imports within functions": f"{sum(map(inner_imports, trees))}",
    }


def main(*folders: str) -> None:
    """Print a table of the figures, a column a folder."""
    places = [Path(folder) for folder in folders] or [Path(__file__).parents[1]]
    columns = [measures(place) for place in places]
    print("| |" + "".join(f" {place.resolve().name} |" for place in places))  # noqa: T201
    print("|---|" + "---|" * len(places))  # noqa: T201
    for name in columns[0]:
        print(f"| {name} |" + "".join(f" {column[name]} |" for column in columns))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
