"""The environment as one frozen value. Nothing else in fincon reads ``os.environ``."""

import logging
import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from fincon.errors import UsageError
from fincon.storage.s3 import ADDRESS, SCHEME, Bucket, DataPath, S3Path

STRIPE_VERSION = "2026-10-28.endive"
"""The API version whose shapes `transforms.stripe_objects` describes."""

IDENTITIES = {
    "account": re.compile(r"fca_[^\x00-\x1f\x7f]{1,200}"),
    "session": re.compile(r"fcsess_[^\x00-\x1f\x7f]{1,200}"),
    "customer": re.compile(r"(cus|acct)_[^\x00-\x1f\x7f]{1,200}"),
}
"""What the ids look like that `fincon erase` takes: any that the lake may have got, however odd what follows the prefix."""

ID_EXAMPLES = {
    "account": "fca_1Nq4tKAbCdEfGhIj",
    "session": "fcsess_1Nq4sWAbCdEfGhIj",
    "customer": "cus_9s6XKzkNRiz8i3, or acct_1Nq4rLAbCdEfGhIj for a Stripe account that holds linked ones",
}

STRIPE_ACCOUNT_ID = re.compile(r"acct_[A-Za-z0-9]{1,200}")

WEBHOOK_SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]{6,200}")
VERSION = re.compile(r"\d{4}-\d{2}-\d{2}([.;].{1,200})?")

HEARTBEAT_SECONDS = 30
"""How often a flow run says that it is alive: the shortest that Prefect takes."""

PII_KEY_LENGTH = 16

MEMORY_MB = 130
"""What DuckDB may hold of a run before it spills to disk, if nothing else is set: a million accounts were loaded in it."""

QUERY_MEMORY_MB = 250
"""What DuckDB may hold of a question before it spills to disk, if nothing else is set: with its process under 500 MB."""

UNUSABLE_IN_A_PATH = re.compile(r"[%?\[\]|^\\\x00-\x1f\x7f]")
"""What delta-rs takes for an escape or a pattern, or panics at."""

MOST = {
    "FINCON_REQUESTS_PER_SECOND": 10_000,
    "FINCON_CONCURRENCY": 1_000,
    "FINCON_MEMORY": 1_000_000,
    "FINCON_QUERY_MEMORY": 1_000_000,
}
"""Variable → the largest number that it takes."""

BASE = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?(/[a-z0-9._~/-]*)?",
    re.ASCII | re.IGNORECASE,
)
"""What an address of Stripe's API looks like."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")

KEY_HINT = (
    "Set STRIPE_API_KEY to a secret (sk_…) or restricted (rk_…) key, or try `fincon demo`, which needs none."
)


class Secret:
    """A string that shows itself only when asked by name: never in a repr, a log line or a traceback."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself. Only what signs a request, or keys a hash, calls this."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __reduce__(self) -> tuple[type["Secret"], tuple[str]]:
        raise TypeError("a Secret is not written anywhere")


@dataclass(frozen=True)
class Settings:
    """How to reach Stripe, and where the data lives."""

    key: Secret
    api_base: str = "https://api.stripe.com"
    stripe_account: str = ""
    stripe_version: str = STRIPE_VERSION
    pii_key: Secret | None = None
    """With what personal data is hashed; needed only where it is."""
    data: DataPath = field(default_factory=lambda: Path("data"))
    ca_bundle: str = ""
    """A file of certificates to trust instead of those that come with `requests`."""
    proxy: Secret | None = None
    """Through which proxy Stripe is reached; the address may hold a password."""
    metrics: Path | None = None
    """Where a file of metrics is written after each run."""
    ping_url: Secret | None = None
    """What is asked for after a run that succeeded; whoever knows the address may do so too."""
    requests_per_second: float | None = None
    concurrency: int = 8
    read_seconds: float = 30.0
    """How long Stripe may be silent within an answer; a whole answer may take three times as long."""
    backoff_seconds: float = 0.5
    """The first wait before a request is tried again; it doubles with each try, and up to so much is added at random."""

    @property
    def livemode(self) -> bool:
        """Tell whether the key is a live one, by its name."""
        return "_live_" in self.key.reveal()


def load_settings(
    environ: Mapping[str, str] | None = None,
    data: str | DataPath | None = None,
    other_key: Callable[[], str] = lambda: "",
) -> Settings:
    """Read `Settings` from the environment variables of the README; ``other_key`` is asked where they hold no key.

    Raises:
        UsageError: a variable is missing or cannot be used; the message names it, never its value if secret.
    """
    env = os.environ if environ is None else environ
    run_memory(env)  # raises before anything is fetched
    key = env.get("STRIPE_API_KEY", "").strip() or other_key()
    if not key:
        raise UsageError("STRIPE_API_KEY is not set.", KEY_HINT)
    if not key.startswith(("sk_", "rk_")) or not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError("STRIPE_API_KEY does not look like a Stripe key.", KEY_HINT)
    settings = Settings(
        key=Secret(key),
        api_base=env.get("STRIPE_API_BASE", "").strip().rstrip("/") or Settings.api_base,
        stripe_account=_matching(env, "STRIPE_ACCOUNT", STRIPE_ACCOUNT_ID, "acct_1Nq4rLAbCdEfGhIj"),
        stripe_version=_matching(env, "STRIPE_VERSION", VERSION, STRIPE_VERSION) or STRIPE_VERSION,
        ca_bundle=_ca_bundle(env),
        proxy=_proxy(env),
        pii_key=pii_key(env),
        metrics=Path(env["FINCON_METRICS"]).expanduser() if env.get("FINCON_METRICS") else None,
        ping_url=_ping_url(env),
        data=data_folder(data, env),
        requests_per_second=_positive(env, "FINCON_REQUESTS_PER_SECOND", float, None),
        concurrency=_positive(env, "FINCON_CONCURRENCY", int, 8) or 8,
    )
    _check_base(settings)
    return settings


def data_folder(
    data: str | DataPath | None = None, environ: Mapping[str, str] | None = None, default: str = "data"
) -> DataPath:
    """Return the data folder: ``--data`` if given, else ``FINCON_DATA``, else ``default``; without links.

    One in a bucket is named ``s3://bucket/folder``; what stays on this machine is then under ``FINCON_WORK``.

    Raises:
        UsageError: its path or address cannot be used.
    """
    env = os.environ if environ is None else environ
    where = data or env.get("FINCON_DATA") or default
    if isinstance(where, S3Path):
        return where
    if isinstance(where, str) and where.startswith(SCHEME):
        return _in_bucket(where, Path(env.get("FINCON_WORK") or "fincon-work"))
    folder = Path(where).expanduser().resolve()
    if found := UNUSABLE_IN_A_PATH.search(str(folder)):
        raise UsageError(
            f"The data folder {str(folder)!r} has a {_character(found[0])} in its path, which Delta Lake cannot name.",
            "Name another.",
        )
    return folder


def _character(character: str) -> str:
    return character if character.isprintable() else f"control character ({character!r})"


def _in_bucket(address: str, work: Path) -> S3Path:
    """Return the data folder ``s3://bucket/folder``, its work folder its own, so that no two lakes share their pages."""
    parts = ADDRESS.fullmatch(address)
    if not parts:
        raise UsageError(
            f"The data folder {address!r} cannot be used.",
            f"Name it like {SCHEME}bucket/folder, of letters, digits, dots, hyphens and underscores.",
        )
    bucket, key = parts[1], parts[2].lstrip("/")
    own = work.expanduser().resolve() / f"{bucket}/{key}".rstrip("/").replace("/", "+")
    return S3Path(Bucket(bucket, own), key)


@cache
def fincon_version() -> str:
    """Return the version of fincon that is installed, which is looked up once: a small run says it half a dozen times."""
    return version("fincon")


def is_set(name: str) -> bool:
    """Tell whether a variable of the environment is there and not empty."""
    return bool(os.environ.get(name, "").strip())


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a process that is started, with ``more`` in it."""
    return {**os.environ, **more}


def set_variables(values: Mapping[str, str]) -> None:
    """Put variables into the environment of this process for good."""
    os.environ.update(values)


def keep_numpy_to_one_thread() -> None:
    """Have numpy, once it is imported, start no thread a core for matrices, of which there are none: each spins for a while."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@contextmanager
def with_variables(values: Mapping[str, str]) -> Iterator[None]:
    """Have variables in the environment of this process, within this block."""
    before = {name: os.environ.get(name) for name in values}
    set_variables(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def prefect_api_url() -> str:
    """Return where a Prefect server is, or an empty string: then runs stay in this process."""
    return os.environ.get("PREFECT_API_URL", "").strip()


def dask_scheduler() -> str:
    """Return the address of the Dask scheduler whose workers fetch, or an empty string: then this process does."""
    return os.environ.get("FINCON_DASK", "").strip()


def run_memory(environ: Mapping[str, str] | None = None) -> str:
    """Return what DuckDB may hold of a run before it spills to disk: ``FINCON_MEMORY``, in megabytes.

    Raises:
        UsageError: that is no number of megabytes.
    """
    return _megabytes("FINCON_MEMORY", MEMORY_MB, environ)


def part_of_run_memory(environ: Mapping[str, str] | None = None) -> str:
    """Return what DuckDB may hold where a run holds much else beside, and this will mostly do: 7/16 of it.

    Raises:
        UsageError: ``FINCON_MEMORY`` is no number of megabytes.
    """
    return _megabytes("FINCON_MEMORY", MEMORY_MB, environ, sixteenths=7)


def query_memory(environ: Mapping[str, str] | None = None) -> str:
    """Return what DuckDB may hold of a query before it spills to disk: ``FINCON_QUERY_MEMORY``, in megabytes.

    Raises:
        UsageError: that is no number of megabytes.
    """
    return _megabytes("FINCON_QUERY_MEMORY", QUERY_MEMORY_MB, environ)


def _megabytes(variable: str, default: int, environ: Mapping[str, str] | None, sixteenths: int = 16) -> str:
    given = _positive(os.environ if environ is None else environ, variable, int, default) or default
    return f"{-(-given * sixteenths // 16)}MB"


def quiet_prefect(*, for_a_person: bool = False) -> None:
    """Keep Prefect's console and telemetry silent. Must run before Prefect is imported.

    ``for_a_person`` who waits for a command, which says itself what fails: no tracebacks of tasks, and a server that went
    away, or is busy (its SQLite answers 503 while another writes), is asked for half a minute, not for minutes.
    """
    if not prefect_api_url():
        os.environ.pop("PREFECT_API_URL", None)
    if for_a_person:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "3")  # after 2, 4 and 8 s, twice
        os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")
        logging.raiseExceptions = False  # of a log that cannot be sent
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT_SECONDS))


def pii_key(environ: Mapping[str, str] | None = None) -> Secret | None:
    """Return the key with which personal data is hashed, if there is one.

    Raises:
        UsageError: it is too short.
    """
    env = os.environ if environ is None else environ
    key = env.get("FINCON_PII_KEY", "")
    if 0 < len(key) < PII_KEY_LENGTH:
        raise UsageError(
            f"FINCON_PII_KEY is shorter than {PII_KEY_LENGTH} characters: its hashes could be guessed.",
            "`openssl rand -hex 32` makes a good one. Keep it: hashes made with another no longer join.",
        )
    return Secret(key) if key else None


Number = TypeVar("Number", int, float)


def _positive(env: Mapping[str, str], name: str, kind: type[Number], default: Number | None) -> Number | None:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        value = kind(text)
    except ValueError:
        value = kind(0)
    if not 0 < value <= MOST[name]:
        what = "a whole number from 1" if kind is int else "a number above 0"
        raise UsageError(
            f"{name} is {text!r}; it takes {what} to {MOST[name]:,}.", f"Unset {name} to use the default."
        )
    return value


def _matching(env: Mapping[str, str], name: str, pattern: re.Pattern[str], example: str) -> str:
    """Read a variable that is empty or matches.

    Raises:
        UsageError: it does neither.
    """
    text = env.get(name, "").strip()
    if text and not pattern.fullmatch(text):
        raise UsageError(f"{name} is {text!r}.", f"It looks like {example}. Unset it to do without.")
    return text


def _ca_bundle(env: Mapping[str, str]) -> str:
    path = env.get("FINCON_CA_BUNDLE", "").strip()
    if path:
        try:
            ssl.create_default_context(cafile=path)
        except (OSError, ssl.SSLError) as error:
            why = (
                error.strerror
                if isinstance(error, FileNotFoundError | PermissionError)
                else "it holds no certificate"
            )
            raise UsageError(
                f"FINCON_CA_BUNDLE is {path!r}, which cannot be used: {why}.",
                "Name a file of certificates in PEM form.",
            ) from error
    return path


def _proxy(env: Mapping[str, str]) -> Secret | None:
    """Read the proxy's address, which may hold a password and so is never shown."""
    text = env.get("FINCON_PROXY", "").strip()
    if text and not _is_address(text):
        raise UsageError(
            "FINCON_PROXY is not the address of an http(s) proxy.",
            "It looks like http://proxy.example.com:3128.",
        )
    return Secret(text) if text else None


def _ping_url(env: Mapping[str, str]) -> Secret | None:
    """Read the address to ping, which is never shown."""
    text = env.get("FINCON_PING_URL", "").strip()
    if text and not _is_address(text):
        raise UsageError(
            "FINCON_PING_URL is no http(s) address.", "It looks like https://hc-ping.com/… of your own."
        )
    return Secret(text) if text else None


def alert_urls(environ: Mapping[str, str] | None = None) -> list[Secret]:
    """Return whom alerts are told to, as Apprise names them (``FINCON_ALERT_URLS``, blanks between): each holds a secret."""
    env = os.environ if environ is None else environ
    return [Secret(url) for url in env.get("FINCON_ALERT_URLS", "").split()]


def webhook_secrets(environ: Mapping[str, str] | None = None) -> list[Secret]:
    """Return the secrets that Stripe signs webhooks with (``STRIPE_WEBHOOK_SECRET``, commas between): two while one is changed.

    Raises:
        UsageError: there is none, or one is no such secret.
    """
    env = os.environ if environ is None else environ
    found = [one.strip() for one in env.get("STRIPE_WEBHOOK_SECRET", "").split(",") if one.strip()]
    hint = "Stripe shows it beside the endpoint (whsec_…), and `stripe listen` when it begins."
    if not found:
        raise UsageError("STRIPE_WEBHOOK_SECRET is not set.", hint)
    for one in found:
        if not WEBHOOK_SECRET.fullmatch(one):
            raise UsageError("STRIPE_WEBHOOK_SECRET does not look like the secret of an endpoint.", hint)
    return [Secret(one) for one in found]


def own_queries(name: str, environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the user's own folder of queries: ``FINCON_CHECKS_DIR`` or ``FINCON_ALERTS_DIR``; None where there is none.

    Raises:
        UsageError: the variable names no folder.
    """
    env = os.environ if environ is None else environ
    text = env.get(name, "")
    if not text:
        return None
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise UsageError(
            f"{name} is {text!r}, which is no folder.", f"Name a folder of .sql files, or unset {name}."
        )
    return folder


LOG_LEVELS = ("debug", "info", "warning", "error")


def log_settings(environ: Mapping[str, str] | None = None) -> tuple[int | None, str]:
    """Return from which level on the log is written (``FINCON_LOG``; None = no log), and its form (``FINCON_LOG_FORMAT``).

    Raises:
        UsageError: there is no such level or form.
    """
    env = os.environ if environ is None else environ
    level, form = (env.get(name, "").strip().lower() for name in ("FINCON_LOG", "FINCON_LOG_FORMAT"))
    for name, value, known in (
        ("FINCON_LOG", level, LOG_LEVELS),
        ("FINCON_LOG_FORMAT", form, ("text", "json")),
    ):
        if value and value not in known:
            raise UsageError(
                f"{name} is {value!r}; it takes {', '.join(known)}.", f"Unset {name} to have no log."
            )
    return (getattr(logging, level.upper()) if level else None), form


def _is_address(text: str) -> bool:
    """Tell whether a text is an http(s) address with a host and, if any, a port that there can be."""
    try:
        parts = urlsplit(text)
        has_host = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False  # of its port, or of brackets
    return has_host and text.isprintable() and " " not in text


def _check_base(settings: Settings) -> None:
    """Refuse an address to which a key must not go: it goes only to https, or to this machine.

    It is held to a form so narrow that nobody who reads it can take another host from it than we do: no user, no
    backslash, no escape. One with a user is not shown, for a password may stand there.
    """
    base = settings.api_base
    if "@" in base:
        raise UsageError("STRIPE_API_BASE holds a user name.", "Leave it out: the key alone signs requests.")
    if _is_address(base):
        parts = urlsplit(base)
        if parts.path.endswith("/v1") or parts.query or parts.fragment:
            raise UsageError(
                f"STRIPE_API_BASE is {base!r}: requests begin with /v1 themselves.",
                f"Name the server alone: {parts.scheme}://{parts.netloc}",
            )
    address = BASE.fullmatch(base)
    if not address or int(address["port"] or 1) not in range(1, 65_536):
        raise UsageError(f"STRIPE_API_BASE is {base!r}, not an http(s) address.", "Unset it to reach Stripe.")
    if address["scheme"].lower() != "http":
        return
    if address["host"].lower().strip("[]") not in LOOPBACK:
        raise UsageError(
            f"STRIPE_API_BASE is {base!r}: a key would cross the network in clear.",
            "Use https, or a server on this machine.",
        )
    if settings.proxy and urlsplit(settings.proxy.reveal()).hostname not in LOOPBACK:
        raise UsageError(
            f"STRIPE_API_BASE is {base!r}, and FINCON_PROXY another machine: a key would cross the network in clear.",
            "Unset FINCON_PROXY: what is on this machine is reached without one.",
        )
