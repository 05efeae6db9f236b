"""Several Stripe accounts fetched at the same time, their failures apart."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TypeVar

from fincon.errors import AccountDisconnected, FinconError, StripeError

E = TypeVar("E")
R = TypeVar("R")

AT_ONCE = 8
"""Stripe accounts fetched at the same time. Each has its own limit, so what bounds them is this machine."""

MAX_CONSECUTIVE_FAILURES = 10
"""Failures one after another after which the rest is not asked: then it is the key or Stripe, not an account."""


def run_all(
    jobs: Sequence[E],
    fetch: Callable[[E], R],
    failure: Callable[[R], FinconError | None],
    not_asked: Callable[[E], R],
    stop: Callable[[], object],
) -> list[R]:
    """What ``fetch`` makes of each errand; of those given up, what ``not_asked`` says.

    Raises:
        Exception: what ``fetch`` itself raised, which is of this machine: ``stop`` is called, and nothing goes on.
    """
    done: list[R] = []
    in_a_row = 0
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="stripe-accounts")
    try:
        futures: dict[Future[R], E] = {pool.submit(fetch, job): job for job in jobs}
        for future in as_completed(futures):
            if future.cancelled():
                done.append(not_asked(futures[future]))
                continue
            result = future.result()
            done.append(result)
            in_a_row = in_a_row + 1 if _is_trouble(failure(result)) else 0
            if in_a_row == MAX_CONSECUTIVE_FAILURES:
                for other in futures:
                    other.cancel()
    except BaseException as error:
        stop()
        # After Ctrl-C they are not waited for: one may hang on an answer, and pages are written whole.
        pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
        raise
    pool.shutdown()
    return done


def _is_trouble(error: FinconError | None) -> bool:
    """Whether a failure may be everyone's: not of an account that the key may no longer act for."""
    return isinstance(error, StripeError) and not isinstance(error, AccountDisconnected)
