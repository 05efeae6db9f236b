"""What the files of a data folder hold, unpacked."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def files_holding(data: Path, texts: Iterable[str]) -> Iterator[tuple[Path, str]]:
    """Yield each file with each of the texts that it holds."""
    needles = re.compile("|".join(sorted(map(re.escape, texts), key=len, reverse=True)) or "(?!)")
    for path in (path for path in data.rglob("*") if path.is_file()):
        if path.name.endswith(".json.zst"):
            with pa.input_stream(str(path), compression="zstd") as file:
                content = bytes(file.read()).decode()
        elif path.suffix == ".parquet":
            content = str(pq.read_table(path).to_pylist())
        else:
            content = path.read_bytes().decode(errors="replace")
        yield from ((path, text) for text in sorted({*needles.findall(content)}))
