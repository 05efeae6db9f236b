"""The data folder on this machine: what is where in it, and how files are replaced."""

import ast
import resource
import signal
import sys
from pathlib import Path

import msgspec
import pytest

import fincon
from fincon.errors import UsageError
from fincon.storage.data_folder import DataFolder, atomic_write, write_whole
from fincon.storage.lease import LeaseRecord
from fincon.storage.lock import writer_lock
from fincon.storage.s3 import Bucket, S3Path

LAYOUT = {
    "lake": "lake",
    "lake_format": "lake/format.json",
    "snapshots": "snapshots",
    "snapshot_index": "snapshots/snapshots.json",
    "settled_sessions": "snapshots/settled.parquet",
    "sightings": "snapshots/sightings.parquet",
    "loading": "loading",
    "before": "before",
    "erasing": ".erasing",
    "views": "fincon.duckdb",
    "erasure_key": ".erasure-key",
    "lock": ".lock",
    "work_id": ".work-id",
    "pages": "pages",
    "quarantine": "pages/quarantine",
    "attempts": "attempts",
    "served": "serve.json",
    "checked": "checked.json",
    "spool": "spool",
    "logs": "logs.json",
    "log_copies": "copies",
    "page_times": "page_times.json",
    "alerts": "alerts.json",
    "rates": "rates.parquet",
    "patterns": "patterns.csv",
}
"""What lakes that exist rest on: attribute of `DataFolder` → path in it."""

OF_THIS_MACHINE = (
    *("lock", "work_id", "pages", "quarantine", "attempts", "served", "checked", "spool"),
    *("logs", "log_copies", "page_times"),
)


def test_the_names_on_disk_stay_and_what_is_under_way_stays_on_this_machine(tmp_path: Path) -> None:
    assert {*LAYOUT, "root", "work"} == vars(DataFolder(tmp_path)).keys()
    here, bucket = DataFolder(tmp_path), DataFolder(S3Path(Bucket("lakes", tmp_path / "work"), "one"))
    for attribute, path in LAYOUT.items():
        assert str(getattr(here, attribute)) == f"{tmp_path}/{path}"
        root = f"{tmp_path}/work" if attribute in OF_THIS_MACHINE else "s3://lakes/one"
        assert str(getattr(bucket, attribute)) == f"{root}/{path}"


def test_one_module_alone_names_the_files_of_the_data_folder() -> None:
    """Docstrings and messages aside."""
    names = {part for path in LAYOUT.values() for part in path.split("/")} - {
        "before",
        "lake",
        "snapshots",
        "pages",
        "attempts",
    }
    names |= {"run.json", "fetched.json", "costs.json", "parts.json"}
    found = set()
    for path in Path(fincon.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value in names - {"loading"}:
                found.add((path.name, node.value))
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):  # data / "lake"
                assert getattr(node.right, "value", "") not in {"lake", "snapshots", "pages", "loading"} or (
                    path.name == "data_folder.py"
                ), (path, node.lineno)
    assert {name for name, _ in found} == {"data_folder.py"}
    assert len(found) == len(names) - 1


def test_a_file_is_replaced_whole_and_for_its_owner_alone_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as part:
        part.write_bytes(b"first")
        part.chmod(0o644)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"first", 0o600)

    def fail_half_way() -> None:
        with atomic_write(path) as part:
            part.write_bytes(b"sec")
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail_half_way()
    assert path.read_bytes() == b"first"


def test_who_holds_the_folder_finds_nothing_that_killed_writers_left_under_way(tmp_path: Path) -> None:
    """And all that they had finished, and what is written without the folder being held."""
    data = tmp_path / "data"
    left = [
        ".staging-killed/accounts-a000001.parquet",
        "pages/run/.accounts-p0000-000001.json.zst.part",
        "lake/accounts/x.part",
        "snapshots/.snapshots.json.part",
        ".fincon.duckdb.part",
    ]
    kept = ["pages/run/accounts-p0000-000000.json.zst", "snapshots/snapshots.json", "fincon.duckdb"]
    kept += [
        ".alerts.json.part",
        ".serve.json.part",
        ".metrics.prom.part",
    ]  # others write them now, without the lock
    for name in (*left, *kept):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).touch()
    with writer_lock(data):
        assert [name for name in left if (data / name).exists()] == []
        assert not (data / ".staging-killed").exists()
        assert [name for name in kept if (data / name).exists()] == kept
        assert data.stat().st_mode & 0o777 == 0o700


def test_a_bucket_without_the_packages_for_it_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("obstore.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "obstore", None)  # as if it were not installed
    path = S3Path(Bucket("lakes", tmp_path), "one")
    for do in (path.exists, path.read_bytes, lambda: path.rglob("*"), lambda: path.put(b"")):
        with pytest.raises(UsageError, match="needs the package obstore") as told:
            do()
        assert "fincon[s3]" in told.value.hint


def test_the_lease_of_an_earlier_version_is_read_and_ours_can_be_read_by_it() -> None:
    old = b'{"holder":"process 1 on a","token":"t","work":"w","until":1.5,"unsettled":true}'
    record = msgspec.json.decode(old, type=LeaseRecord)
    assert (record.holder, record.until, record.must_fence) == ("process 1 on a", 1.5, True)
    assert msgspec.json.encode(record) == old


def test_a_page_that_does_not_fit_is_an_error_and_no_file(tmp_path: Path) -> None:
    """The kernel takes what there is room for, and says so."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            write_whole(tmp_path / "page", bytes(100_000))
        write_whole(tmp_path / "small", bytes(30_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not (tmp_path / "page").exists()
    assert (tmp_path / "small").stat().st_size == 30_000
    assert (tmp_path / "small").stat().st_mode & 0o777 == 0o600
