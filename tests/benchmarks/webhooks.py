"""A listener under load: events at a steady rate, however long an answer takes, and what the lake has of them then."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import requests

from fincon.sandbox.webhooks import signature
from fincon.warehouse.connection import connect
from tests.benchmarks.processes import Figures, cpu_of, environment
from tests.scripted_stripe import ScriptedStripe, account, event, serving

SECRET = "whsec_benchmark"  # noqa: S105 - it opens nothing
ACCOUNTS, CONNECTIONS, EVERY = 1_000, 64, 10


def requests_of(stripe: ScriptedStripe, count: int, host: str) -> list[bytes]:
    """So many webhooks, as they are sent: each account has one event a second, with a balance of its own."""
    found, now = [], int(time.time())
    for number in range(count):
        of = account(f"fca_{number % ACCOUNTS}", 1_000 + number)
        body = json.dumps(event(f"evt_{number}", of, stripe.clock + 1 + number // ACCOUNTS)).encode()
        head = f"POST /stripe/events HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
        found.append(f"{head}Stripe-Signature: {signature(body, SECRET, now)}\r\n\r\n".encode() + body)
    return found


async def send(host: str, port: int, sent: list[bytes], rate: float) -> list[tuple[float, bytes]]:
    """Send each when it is due, and return how long after that it was answered (seconds), and with which status."""
    start, left, answers = time.perf_counter() + 0.2, iter(enumerate(sent)), list[tuple[float, bytes]]()

    async def work() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        for number, request in left:
            due = start + number / rate
            await asyncio.sleep(due - time.perf_counter())
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            answers.append((time.perf_counter() - due, head[9:12]))
        writer.close()

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return answers


def under_load(seconds: int, rate: float) -> Figures:
    """Send ``rate`` events a second for so long while they are loaded; then wait for the rest, and compare."""
    count = int(seconds * rate)
    with tempfile.TemporaryDirectory() as folder, serving(
        ScriptedStripe([account(f"fca_{number}") for number in range(ACCOUNTS)])
    ) as stripe:  # fmt: skip
        env = environment(
            STRIPE_API_BASE=stripe.url, STRIPE_API_KEY="sk_test_benchmark", FINCON_DATA=folder,
            STRIPE_WEBHOOK_SECRET=SECRET,
        )  # fmt: skip
        fincon = str(Path(sys.executable).with_name("fincon"))
        subprocess.run([fincon, "--quiet", "sync"], env=env, check=True)
        command = [fincon, "listen", "--port", "0", "--every", str(EVERY)]
        with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr
                url = urlsplit(process.stderr.readline().split()[2].rstrip("."))
                health = f"http://{url.netloc}/health"
                sent = requests_of(stripe, count, url.netloc)
                before, began = cpu_of(process.pid), time.perf_counter()
                answers = asyncio.run(send(str(url.hostname), int(url.port or 0), sent, rate))
                took, taken_cpu = time.perf_counter() - began - 0.2, cpu_of(process.pid) - before
                while requests.get(health, timeout=60).json()["waiting"]:
                    time.sleep(0.2)
                behind = time.perf_counter() - began - 0.2 - took
                process.terminate()
                process.communicate(timeout=60)
            finally:
                process.kill()
        with connect(folder) as views:
            found = views.execute(
                "SELECT count(*), count(DISTINCT current) FROM history.balances WHERE current >= 1000"
            ).fetchall()
    late = sorted(seconds for seconds, _ in answers)
    return {
        "events a second": round(count / took),
        "p50 ms": round(late[len(late) // 2] * 1e3, 1),
        "p99 ms": round(late[int(len(late) * 0.99)] * 1e3, 1),
        "most ms": round(late[-1] * 1e3),
        "refused": sum(status != b"200" for _, status in answers),
        "missing rows": 2 * count - sum(found[0]),
        "all loaded after s": round(behind, 1),
        "listener CPU s": round(taken_cpu, 1),
    }
