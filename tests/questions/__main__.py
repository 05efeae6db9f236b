"""``python -m tests.questions --seeds 200``: the views against the sandbox's own state, world after world."""

import argparse
import sys
import time

from tests.questions import differences
from tests.questions.answers import ANSWERS


def main() -> int:
    """Go through the seeds; print what differs and a summary. Return 1 where anything differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.questions", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many worlds")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    given = parser.parse_args()
    begun, wrong = time.monotonic(), 0
    for seed in range(given.first, given.first + given.seeds):
        for difference in differences(seed):
            wrong += 1
            print(f"seed {seed}: {difference}", flush=True)  # noqa: T201
    seconds = time.monotonic() - begun
    print(f"{given.seeds} worlds, {len(ANSWERS)} questions each: {wrong} answers differ ({seconds:,.0f} s)")  # noqa: T201
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
