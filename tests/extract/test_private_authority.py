"""Stripe behind a private authority's certificate: trusted by FINCON_CA_BUNDLE alone, and each mistake told apart."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fincon.sandbox.server import running
from fincon.sandbox.world import World
from tests.conftest import environ
from tests.typed import typed

DAY = timedelta(days=1)
PEM = serialization.Encoding.PEM


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """A private authority of certificates, in a folder."""

    def __init__(self, folder: Path, called: str) -> None:
        self.folder, self.called = folder, name(called)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.bundle = folder / f"{called}.pem"
        own = self._sign(
            self.called, self.key.public_key(), datetime.now(UTC) + DAY, x509.BasicConstraints(True, 0)
        )
        self.bundle.write_bytes(own.public_bytes(PEM))

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, until: datetime, what: x509.ExtensionType
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.called).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).add_extension(what, critical=True)
        return (
            builder.not_valid_before(until - 9 * DAY).not_valid_after(until).sign(self.key, hashes.SHA256())
        )

    def server(self, address: str, until: datetime) -> ssl.SSLContext:
        """Return the context of a server whose certificate is for an address, until a time."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        made = self._sign(name("server"), key.public_key(), until, names)
        file = self.folder / f"{address}-{until:%Y%m%d}.pem"
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.write_bytes(made.public_bytes(PEM) + private)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@contextmanager
def in_front_of(url: str, context: ssl.SSLContext) -> Iterator[str]:
    """Serve https, and pass what comes to a server of plain http; yield the address."""
    target = (str(urlsplit(url).hostname), int(urlsplit(url).port or 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65_536):
                sink.sendall(piece)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def serve(plain: socket.socket) -> None:
        with (
            suppress(OSError),  # a client may refuse
            context.wrap_socket(plain, server_side=True) as secure,
            socket.create_connection(target) as behind,
        ):
            back = threading.Thread(target=pump, args=(behind, secure), daemon=True)
            back.start()
            pump(secure, behind)
            back.join()

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):  # it is closed at the end
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def http() -> Iterator[str]:
    """A sandbox's plain address."""
    with running(World(accounts=20, sessions=4)) as sandbox:
        yield sandbox.url


@pytest.mark.slow
def test_a_private_authority_is_trusted_where_its_bundle_is_named(http: str, tmp_path: Path) -> None:
    ours = Authority(tmp_path, "ours")
    with in_front_of(http, ours.server("127.0.0.1", datetime.now(UTC) + DAY)) as https:
        done = typed("sync", cwd=tmp_path, env=environ(https, FINCON_CA_BUNDLE=str(ours.bundle)))
        assert done.code == 0, done.err
        assert "20 accounts" in done.err


@pytest.mark.parametrize(
    ("bundle", "address", "days", "says", "advice"),
    [
        ("", "127.0.0.1", 1, "certificate is not trusted", "FINCON_CA_BUNDLE"),
        ("others", "127.0.0.1", 1, "certificate is not trusted", "FINCON_CA_BUNDLE"),
        ("ours", "127.0.0.9", 1, "certificate is for another name", "STRIPE_API_BASE"),
        ("ours", "127.0.0.1", -1, "certificate is not valid at this time", "clock"),
        ("ours", "127.0.0.1", 12, "certificate is not valid at this time", "clock"),
    ],
)
@pytest.mark.first(1, 2)
def test_what_is_wrong_with_a_certificate_is_told_apart(
    bundle: str, address: str, days: int, says: str, advice: str, http: str, tmp_path: Path
) -> None:
    """In two lines, with what to change; nothing is sent."""
    ours = Authority(tmp_path, "ours")
    Authority(tmp_path, "others")
    with in_front_of(http, ours.server(address, datetime.now(UTC) + days * DAY)) as https:
        env = environ(https, **({"FINCON_CA_BUNDLE": f"{bundle}.pem"} if bundle else {}))
        done = typed("sync", cwd=tmp_path, env=env)
    assert done.code == 1
    assert len(done.err.splitlines()) == 2, done.err
    assert says in done.err
    assert advice in done.err.splitlines()[1]


@contextmanager
def refusing(answer: bytes) -> Iterator[str]:
    """Serve a proxy that answers everything with the same words; yield its address."""

    def serve(client: socket.socket) -> None:
        with suppress(OSError), client:
            client.recv(65_536)
            client.sendall(answer)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):  # it is closed at the end
            while True:
                serve(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield f"http://me:secretword@127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("answer", ["403 Forbidden", "407 Proxy Authentication Required"])
@pytest.mark.first(1)
def test_a_proxy_that_refuses_is_told_apart_from_the_server(answer: str, tmp_path: Path) -> None:
    """In two lines that name the setting, without the password in it."""
    with refusing(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n".encode()) as proxy:
        done = typed("sync", cwd=tmp_path, env=environ("https://api.stripe.com", FINCON_PROXY=proxy))
    assert done.code == 1
    said, advice = done.err.splitlines()
    assert "the proxy (FINCON_PROXY) does not answer, or refuses" in said
    assert "Check FINCON_PROXY" in advice
    assert "secretword" not in done.err


def test_a_host_that_nobody_knows_is_told_as_that(tmp_path: Path) -> None:
    """`.invalid` is a name that no resolver ever knows (RFC 2606)."""
    done = typed("sync", cwd=tmp_path, env=environ("https://stripe.invalid"))
    assert done.code == 1
    said, advice = done.err.splitlines()
    assert "the server's name is not known" in said
    assert "Check the name in STRIPE_API_BASE" in advice
