"""``python -m tests.soak --syncs 200 --seed 1``: until so many syncs were killed. Exits 1 if anything is wrong.

Of three worlds one is listed whole each time, one is kept up to date by events, and one is three connected accounts in one
lake. In all of them people are erased; in the last two, choices about personal data change.
"""

# ruff: noqa: T201

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from tests.soak.chaos import Figures, Soak


def main() -> int:
    """Run the worlds side by side, then say what they did."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--syncs", type=int, default=200, help="how many syncs are killed, in all worlds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=3, help="worlds and data folders at the same time")
    parser.add_argument("--accounts", type=int, default=150)
    parser.add_argument("--keep", type=Path, help="leave the data folders here")
    chosen = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fincon-soak-") as folder:
        place = chosen.keep or Path(folder)
        share = -(-chosen.syncs // chosen.workers)
        soaks = [
            Soak(
                place / str(world) / "data", chosen.seed + world, share,
                chosen.accounts, chosen.accounts * 2 // 5,
                events=world % 3 == 1, connected=3 if world % 3 == 2 else 0, choices=world % 3 != 0,
            )
            for world in range(chosen.workers)
        ]  # fmt: skip
        with ThreadPoolExecutor(chosen.workers) as pool:
            list(pool.map(Soak.run, soaks))
    figures = sum((soak.figures for soak in soaks), Figures())
    for name, value in asdict(figures).items():
        print(f"{name.replace('_', ' '):<22}{value:>10,}")
    print(f"{'seconds':<22}{time.monotonic() - began:>10,.0f}")
    wrong = [f"world {soak.seed}: {line}" for soak in soaks for line in soak.wrong]
    print(f"{'wrong':<22}{len(wrong):>10,}")
    for line in wrong[:40]:
        print(line[:2000], file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
