"""Fetch several things at the same time: objects of one Stripe account, or several Stripe accounts, failures apart."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from itertools import islice
from threading import Event
from typing import TypeVar

from fincon.errors import AccountDisconnected, FinconError, Stopped, StripeError
from fincon.extract.client import StripeClient

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 8
"""Stripe accounts fetched at the same time. Each has its own limit, so what bounds them is this machine."""

MAX_CONSECUTIVE_FAILURES = 10
"""Failures one after another after which the rest is not asked: then it is the key or Stripe, not an account."""

QUEUED = 64
"""Objects that wait for a thread: each takes a kilobyte, and there may be a million to fetch."""

Meanwhile = Callable[[Callable[[], bool]], object]
"""What runs beside a fetch, until the function that it is given says that it is time to end."""


def fetch_each(
    stripe: StripeClient,
    fetch: Callable[[T], object],
    wanted: Iterable[T],
    progress: Callable[[int], object],
    meanwhile: Meanwhile | None = None,
) -> None:
    """Call ``fetch`` with each of ``wanted``, several at a time; and ``meanwhile`` beside them, until all are done.

    Raises:
        StripeError: one failed for good; those already fetched stay on disk.
    """
    over, failed = Event(), Event()

    def fetch_unless_failed(one: T) -> object:
        # By the time that this thread's turn comes, which may be before the client is stopped.
        if failed.is_set():
            return None
        try:
            return fetch(one)
        except BaseException:
            failed.set()
            raise

    beside: set[Future[object]]
    waiting: set[Future[object]]
    with worker_threads(stripe, stripe.settings.concurrency + bool(meanwhile)) as pool:
        try:
            beside = {pool.submit(meanwhile, over.is_set)} if meanwhile else set()
            rest = iter(wanted)
            waiting = {pool.submit(fetch_unless_failed, one) for one in islice(rest, QUEUED)}
            while waiting:
                done, _ = wait(waiting | beside, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    if future in waiting and not failed.is_set():
                        progress(1)
                fetched = len(done & waiting)
                waiting -= done
                beside -= done
                waiting |= {pool.submit(fetch_unless_failed, one) for one in islice(rest, fetched)}
            over.set()
            for future in beside:
                future.result()
        finally:
            over.set()


@contextmanager
def worker_threads(stripe: StripeClient, count: int) -> Iterator[ThreadPoolExecutor]:
    """Give ``count`` threads that share a client; wait for them, or where anything fails end them early."""
    pool = ThreadPoolExecutor(count, thread_name_prefix="fetch")
    try:
        yield pool
    except BaseException as error:
        end_early(stripe, pool, error)
        raise
    pool.shutdown()


def end_early(stripe: StripeClient, pool: ThreadPoolExecutor, error: BaseException) -> None:
    """Stop every thread. After Ctrl-C, or where the sync is stopped, no answer is waited for: pages are written whole."""
    may_go_on = isinstance(error, Exception) and not isinstance(error, Stopped)
    if may_go_on:
        stripe.stop()
    else:
        stripe.abort()
    pool.shutdown(wait=may_go_on, cancel_futures=True)
    if may_go_on:
        stripe.go_on()  # whoever tries the same again fetches only what is not on disk yet


def run_all(
    jobs: Sequence[T],
    fetch: Callable[[T], R],
    failure: Callable[[R], FinconError | None],
    not_asked: Callable[[T], R],
    stop: Callable[[], object],
) -> list[R]:
    """Return what ``fetch`` makes of each job; of those given up, what ``not_asked`` says.

    Raises:
        Exception: what ``fetch`` itself raised, which is of this machine: ``stop`` is called, and nothing goes on.
    """
    done: list[R] = []
    in_a_row = 0
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="stripe-accounts")
    try:
        futures: dict[Future[R], T] = {pool.submit(fetch, job): job for job in jobs}
        for future in as_completed(futures):
            if future.cancelled():
                done.append(not_asked(futures[future]))
                continue
            result = future.result()
            done.append(result)
            in_a_row = in_a_row + 1 if _may_be_everyones(failure(result)) else 0
            if in_a_row == MAX_CONSECUTIVE_FAILURES:
                for other in futures:
                    other.cancel()
    except BaseException as error:
        stop()
        # After Ctrl-C they are not waited for: one may be about to connect, and pages are written whole.
        pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
        raise
    pool.shutdown()
    return done


def _may_be_everyones(error: FinconError | None) -> bool:
    """Tell whether a failure may be of the key or of Stripe: not of an account that the key may no longer act for."""
    return isinstance(error, StripeError) and not isinstance(error, AccountDisconnected)
