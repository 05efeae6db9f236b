"""``python -m tests.fuzz --seconds 600``: until the time is over or a million inputs were seen. Exits 1 on a finding."""

# ruff: noqa: S311, T201

import argparse
import random
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import duckdb

from fincon.transforms.decode import Decoders
from tests.fuzz.mutate import Pages, seeds, spoiled
from tests.fuzz.oracle import Lost, accepted, look, pages_of, stream_of

TOGETHER = 10
"""Inputs that are flattened at a time, as a run does."""

A_NEW_RUN = 0.05
"""How often what was learned of unknown attributes is forgotten, as it is with each run."""


class Fuzz:
    """Inputs from a seed, and what came of them."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.seeds = seeds()
        self.views = duckdb.connect(config={"threads": 1})
        self.decoders = Decoders()
        self.counts: Counter[str] = Counter()
        self.findings: dict[str, Pages] = {}

    def run(self, seconds: float, inputs: int = 1_000_000) -> None:
        """Until the time is over or so many inputs were flattened."""
        began = time.monotonic()
        while self.counts["inputs"] < inputs and time.monotonic() - began < seconds:
            if self.dice.random() < A_NEW_RUN:
                self.decoders = Decoders()
            self.try_some([made for _ in range(TOGETHER) if (made := self._make())])

    def _make(self) -> Pages | None:
        """An input that the fetching would keep; None where it would not."""
        seed = self.dice.choice(self.seeds)
        made = spoiled(seed, self.dice)
        stream = stream_of(seed)
        try:
            good = all(
                accepted(body, of_session=stream == "sessions" and not i) for i, body in enumerate(made)
            )
        except Exception as error:  # noqa: BLE001 - a check that crashes is a finding
            self._found(error, made)
            return None
        if not good or stream_of(made) != stream:
            self.counts["refused by the fetching"] += 1
            return None
        return made

    def try_some(self, inputs: list[Pages]) -> None:
        """Flatten them together; if that goes wrong, each alone, to know which it was."""
        if not inputs:
            return
        try:
            pages = [pages_of(bodies, number) for number, bodies in enumerate(inputs)]
            self.counts.update(look(pages, self.views, self.decoders))
            self.counts["inputs"] += len(inputs)
        except Exception as error:  # noqa: BLE001 - every crash is a finding
            if len(inputs) == 1:
                self.counts["inputs"] += 1
                self._found(error, inputs[0])
                return
            before = self.counts["findings"]
            for one in inputs:
                self.try_some([one])
            if self.counts["findings"] == before:
                self._found(error, [body for bodies in inputs for body in bodies])

    def _found(self, error: Exception, bodies: Pages) -> None:
        """Keep the shortest input of each kind of finding."""
        self.counts["findings"] += 1
        frame = traceback.extract_tb(error.__traceback__)[-1]
        said = str(error).split(":", 1)[0][:60] if isinstance(error, Lost | duckdb.Error) else ""
        kind = f"{type(error).__name__} in {Path(frame.filename).name}:{frame.name} {said}".strip()
        known = self.findings.get(kind)
        if known is None or sum(map(len, bodies)) < sum(map(len, known)):
            self.findings[kind] = bodies


def main() -> int:
    """Fuzz, then say what was seen."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="write the shortest input of each finding here")
    chosen = parser.parse_args()
    fuzz = Fuzz(chosen.seed)
    began = time.monotonic()
    fuzz.run(chosen.seconds, chosen.inputs)
    took = time.monotonic() - began
    names = (
        "inputs", "refused by the fetching", "accounts", "sessions", "authorizations", "transactions", "owners", "rejects",
        "findings",
    )  # fmt: skip
    for name in names:
        print(f"{name:<26}{fuzz.counts[name]:>12,}")
    print(f"{'seconds':<26}{took:>12,.0f}")
    for number, (kind, bodies) in enumerate(sorted(fuzz.findings.items())):
        print(f"{kind}: {b' '.join(bodies)[:600]!r}", file=sys.stderr)
        if chosen.keep:
            chosen.keep.mkdir(parents=True, exist_ok=True)
            for place, body in enumerate(bodies):
                (chosen.keep / f"{number:02}-{place}.json").write_bytes(body)
    return 1 if fuzz.findings else 0


if __name__ == "__main__":
    sys.exit(main())
