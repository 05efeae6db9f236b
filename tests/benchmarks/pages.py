"""Pages of accounts as Stripe prints them, made from a sandbox world without HTTP."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

import orjson

from fincon.lake.append import load_staged
from fincon.lake.staging import stage
from fincon.lake.tables import Lake
from fincon.lake.take_back import under_way
from fincon.sandbox import objects
from fincon.sandbox.world import World
from fincon.transforms.page import Header, Origin, Page

PAGE = 100
URL = "/v1/financial_connections/accounts"


def body(world: World, indexes: Sequence[int], *, more: bool = True, unknown: bool = True) -> bytes:
    """A page of these accounts; without ``unknown``, none has an attribute that the reference does not name."""
    if unknown:
        data = [world.account_json(index) for index in indexes]
    else:
        found = (world.things.account(index, world.time) for index in indexes)
        data = [objects.account(account._replace(unknown={})) for account in found]
    page = {"object": "list", "data": data, "has_more": more, "url": URL}
    return orjson.dumps(page, option=orjson.OPT_INDENT_2) + b"\n"


def bodies(world: World, *, unknown: bool = True) -> Iterator[bytes]:
    """Every page of a world, newest account first."""
    count = world.account_count
    for end in range(count, 0, -PAGE):
        start = max(0, end - PAGE)
        yield body(world, range(end - 1, start - 1, -1), more=start > 0, unknown=unknown)


def enveloped(found: Iterable[bytes], at: int) -> Iterator[Page]:
    """Bodies as pages of a listing, observed from the Unix second ``at`` on."""
    for number, content in enumerate(found):
        header = Header(
            stream="accounts", number=number, offset=number * PAGE, count=PAGE, request=URL, request_id="",
            status=200, observed_at=at * 1_000_000 + number, cursor=None,
        )  # fmt: skip
        yield Page(header, content)


def listing(world: World) -> Iterator[Page]:
    """The whole listing of a world, as a run would have kept it."""
    return enveloped(bodies(world), world.time)


def transaction_pages(world: World, count: int) -> Iterator[Page]:
    """The transactions of a world's accounts as a first run would have kept them, ``count`` and a few more of them."""
    found = 0
    for index in range(world.account_count):
        if found >= count:
            return
        known = [objects.transaction(one) for one in world.transactions(index)]
        for number, start in enumerate(range(0, len(known), PAGE)):
            data = known[start : start + PAGE]
            header = Header(
                stream="transactions", parent=world.account_id(index), number=number, offset=start,
                count=len(data), request="", request_id="", status=200,
                observed_at=world.time * 1_000_000 + index, cursor=None,
            )  # fmt: skip
            yield Page(header, orjson.dumps({"object": "list", "data": data, "has_more": False}))
        found += len(known)


def later(world: World, by: timedelta) -> World:
    """The same world, some time on."""
    return world.at(world.clock + by)


def load_pages(lake: Lake, pages: Iterable[Page], run_id: str) -> dict[str, int]:
    """Stage pages and load them at once, as one run; the pages of a session must stand together. Returns its counts."""
    origin = Origin(run_id)
    with lake.staging() as folder, under_way(lake, [run_id]):
        stage(pages, origin, folder)
        return load_staged(lake, folder, [origin])[run_id]
