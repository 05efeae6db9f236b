"""What the tests of the command line share: a lake that was synced once, and a run of a command within this process."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from fincon.sandbox.server import running
from fincon.sandbox.world import World
from tests.conftest import START, sync
from tests.typed import Shown, typed


@pytest.fixture(scope="session")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which ``data`` is a small lake. Only read it."""
    folder = tmp_path_factory.mktemp("synced")
    world = World(seed=1, clock=START, accounts=40, sessions=12)
    with running(world) as sandbox:
        sync(sandbox.url, folder / "data", world.session_ids())
    return folder


Call = Callable[..., Shown]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """`typed`, in the test's own folder where no other is named."""
    return partial(typed, cwd=tmp_path)
