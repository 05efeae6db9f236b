"""``python -m tests.questions --seeds 200``: the views against the sandbox's own state, world after world."""

import argparse
import sys
import time

from tests.questions import QUESTIONS, differences

EVERY = 10
"""After how many worlds a line says how far it is."""


def main() -> int:
    """Go through the seeds; print what differs, every ten how far it is, and a figure at the end, also where it is stopped.

    Return 1 where anything differs.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.questions", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many worlds")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    given = parser.parse_args()
    begun, wrong, done = time.monotonic(), 0, 0

    def say_how_far() -> None:
        counted = f"{done} of {given.seeds} worlds, {len(QUESTIONS)} questions each: {wrong} answers differ"
        print(f"{counted} ({time.monotonic() - begun:,.0f} s)", flush=True)  # noqa: T201

    try:
        for seed in range(given.first, given.first + given.seeds):
            for difference in differences(seed):
                wrong += 1
                print(f"seed {seed}: {difference}", flush=True)  # noqa: T201
            done += 1
            if done % EVERY == 0 and done < given.seeds:
                say_how_far()
    finally:  # also after Ctrl-C, of which DuckDB makes an error of its own
        say_how_far()
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
