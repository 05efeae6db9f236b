"""The wheel installed as a stranger does: one import package, which works in a folder full of other people's modules."""

import os
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from fincon.sandbox.server import Sandbox
from tests.conftest import environ
from tests.prefect_server import until

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
OTHERS = (
    "flows/__init__.py",
    "transforms/__init__.py",
    "sandbox/__init__.py",
    "fincon/__init__.py",
    "sql.py",
    "click.py",
)
"""Modules that a user may have beside the data; ``fincon`` is a folder that anybody might call so."""


def python(*arguments: str, cwd: Path = ROOT) -> str:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of the tree, and the wheel of its sdist."""
    folder = tmp_path_factory.mktemp("built")
    python("-m", "hatchling", "build", "-d", str(folder))
    with tarfile.open(next(folder.glob("*.tar.gz"))) as sdist:
        sdist.extractall(folder, filter="data")
    python("-m", "hatchling", "build", "-t", "wheel", "-d", "again", cwd=folder / f"fincon-{VERSION}")
    return {
        "tree": next(folder.glob("*.whl")),
        "sdist": next((folder / f"fincon-{VERSION}" / "again").glob("*.whl")),
    }


@pytest.fixture(scope="module")
def installed(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment that has the wheel, and else what this one has, but not this tree."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=False)
    packages = home / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    pip = ("-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(home / "bin" / "python"))
    python(*pip, "install", "--no-index", "--no-deps", str(built["sdist"]))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with modules of its own, none of which may be imported."""
    for name in OTHERS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"raise RuntimeError('{name} of the folder was imported')\n")
    return tmp_path


def environment(sandbox: Sandbox, home: Path) -> dict[str, str]:
    clean = {
        k: v for k, v in os.environ.items() if not k.startswith(("STRIPE_", "FINCON_", "PREFECT_", "PYTHON"))
    }
    return {**clean, **environ(sandbox.url), "PREFECT_HOME": str(home)}


@pytest.mark.parametrize("source", ["tree", "sdist"])
def test_the_wheel_holds_one_package_with_all_its_parts(built: dict[str, Path], source: str) -> None:
    with zipfile.ZipFile(built[source]) as wheel:
        names = set(wheel.namelist())
    assert {name.partition("/")[0] for name in names} == {"fincon", f"fincon-{VERSION}.dist-info"}
    tracked = python(
        "-c", "import subprocess; print(subprocess.check_output(['git', 'ls-files'], text=True))"
    ).split()
    parts = ("flows/", "transforms/", "sql/", "sandbox/")
    own = {
        name if name.startswith("fincon/") else f"fincon/{name}"
        for name in tracked
        if name.startswith(("fincon/", *parts))
    }
    links = {f"fincon/{part.rstrip('/')}" for part in parts}
    assert {name for name in names if name.startswith("fincon/")} == own - links
    assert "fincon/py.typed" in names


def test_every_command_works_in_a_folder_that_has_modules_of_the_same_names(
    installed: Path, folder: Path, sandbox: Sandbox
) -> None:
    env = environment(sandbox, folder / "home")

    def fincon(*arguments: str) -> str:
        done = subprocess.run(
            [str(installed / "fincon"), *arguments],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert fincon("--version").split()[-1] == VERSION
    fincon("sync")
    count = f"{sandbox.world.account_count}"
    assert fincon("sql", "SELECT count(*) AS n FROM accounts", "--format", "csv").split() == ["n", count]


def test_serve_runs_what_is_due_there(installed: Path, folder: Path, sandbox: Sandbox) -> None:
    """Its runs are processes of their own, which do not look into the folder that they are started from."""
    (folder / "prefect.yaml").write_text(
        "deployments: [{name: often, entrypoint: fincon.flows.sync.sync, schedules: [{cron: '* * * * * *'}]}]"
    )
    said = folder / "said"
    with said.open("w") as log:
        process = subprocess.Popen(
            [str(installed / "fincon"), "serve"],
            cwd=folder,
            env=environment(sandbox, folder / "home"),
            stdout=log,
            stderr=log,
        )
        try:
            until(lambda: "often ended with" in said.read_text() or process.poll() is not None)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    assert "often ended with 0" in said.read_text()


def test_the_import_of_the_readme_works_there(installed: Path, folder: Path, sandbox: Sandbox) -> None:
    """From a script or a notebook there, whose folder is on the path: all but a ``fincon`` of its own is as it was."""
    (folder / "fincon" / "__init__.py").unlink()
    (folder / "fincon").rmdir()
    env = environment(sandbox, folder / "home")
    subprocess.run([str(installed / "fincon"), "--quiet", "sync"], cwd=folder, env=env, check=True)
    code = (
        "import fincon; print(fincon.__version__, fincon.__file__);"
        "print(fincon.connect('data').sql('SELECT count(*) FROM accounts').fetchall()[0][0])"
    )
    done = subprocess.run(
        [str(installed / "python"), "-c", code],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    version, file, count = done.stdout.split()
    assert (version, count) == (VERSION, f"{sandbox.world.account_count}"), done.stderr
    assert Path(file).is_relative_to(installed.parent)
