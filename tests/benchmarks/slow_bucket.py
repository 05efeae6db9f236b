"""A bucket, ``lakes``, on moto's S3 server behind a proxy that lets each request wait and counts them."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from urllib.parse import parse_qs

import requests

SECONDS = 0.03
METHODS = (b"GET", b"PUT", b"HEAD", b"POST", b"DELETE")
COUNT = b"GET /-/requests "
"""How the request begins that the proxy answers itself: with how many of each kind there were."""

NAMES = re.compile(r"[0-9a-f]{8,}[-0-9a-f.]*|part-\S+?(?=\.)|\d{20}")
"""What differs from one request to the next of a kind."""


def kind(asked: bytes) -> str:
    """Return the method of a request, and where it goes, without what differs between requests of a kind."""
    method, _, rest = asked.partition(b"\r\n")[0].decode().partition(" ")
    path, _, query = rest.rpartition(" ")[0].partition("?")
    prefix = parse_qs(query).get("prefix", [""])[0]
    return f"{method} {f'list {prefix}' if 'list-type' in query else NAMES.sub('*', path)}"


class Proxy:
    """Hands on what clients ask of the server at ``port``."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: Counter[str] = Counter()

    async def answer(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Serve one connection; a request begins with a piece of its own, for nobody pipelines."""
        asked = await client.read(1 << 20)
        if asked.startswith(COUNT):
            said = json.dumps(self.asked.most_common()).encode()
            head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: "
            to_client.write(b"%s%d\r\n\r\n%s" % (head, len(said), said))
            to_client.close()
            return
        server, to_server = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(self._ask(asked, client, to_server), _tell(server, to_client))

    async def _ask(self, asked: bytes, client: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        while asked:
            if asked.split(b" ", 1)[0] in METHODS:
                self.asked[kind(asked)] += 1
                await asyncio.sleep(SECONDS)
            to_server.write(asked)
            await to_server.drain()
            asked = await client.read(1 << 20)
        to_server.close()


async def _tell(server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
    while said := await server.read(1 << 20):
        to_client.write(said)
        await to_client.drain()
    to_client.close()


def bucket() -> None:
    """Serve it until interrupted."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as moto:
        try:
            _make_bucket(f"http://127.0.0.1:{port}/lakes")
            asyncio.run(_serve(Proxy(port)))
        finally:
            moto.kill()


def _make_bucket(url: str) -> None:
    for _ in range(600):
        try:
            requests.put(url, timeout=5)
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("moto does not answer")


async def _serve(proxy: Proxy) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    server = await asyncio.start_server(proxy.answer, "127.0.0.1", 0)
    print(f"url=http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201
    await stop.wait()
    server.close()
