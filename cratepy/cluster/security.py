"""Who may speak on the transport port: mutual TLS between nodes, from certificate files or from one shared secret.

In: settings. Out: a pair of TLS contexts, and :class:`SecureChannel`, the TLS state of one connection without a socket.

With files (``ssl.transport.mode: on``) every node proves a certificate of the cluster's own authority. With a secret
(``cluster.secret``) each node derives the same key pair and self-signed certificate from it and trusts nothing else: who
does not know the secret cannot finish the handshake in either direction. Either way it is TLS 1.3: fresh keys per
connection, nothing to replay, nothing to downgrade. Plaintext is for loopback, or asked for (``transport.insecure``).
"""

from __future__ import annotations

import datetime
import os
import ssl
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cratepy.errors import CrateError
from cratepy.records import dataclass

SECRET_CHARS_MIN: Final = 16
_READ_BYTES: Final = 256 * 1024
_KEY_INFO: Final = b"cratepy transport key 1"


class SecurityError(CrateError):
    """The transport cannot be made as safe as it was asked to be; refuses the start of the node."""

    code, sqlstate, label = 4000, "22023", "SettingsException"


@dataclass(frozen=True, slots=True)
class TransportSecurity:
    """The two sides of mutual TLS."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    #: For the log: ``TLS with certificates`` or ``TLS from the cluster secret``.
    name: str


def from_files(*, certificate: Path, key: Path, authority: Path) -> TransportSecurity:
    """PEM files: this node's certificate and key, and the authority that has signed all nodes'. Raises SecurityError."""
    try:
        trusted = authority.read_text()
        return _contexts(certificate, key, trusted, "TLS with certificates")
    except (OSError, ssl.SSLError, ValueError) as error:
        raise SecurityError(f"cannot use {certificate}, {key} and {authority} for the transport: {error}") from error


def from_secret(secret: str) -> TransportSecurity:
    """The contexts of everybody who knows the secret. Raises SecurityError: it is too short to be one."""
    if len(secret) < SECRET_CHARS_MIN:
        raise SecurityError(f"[cluster.secret] must have at least {SECRET_CHARS_MIN} characters")
    # Only needed with a secret; 60 ms and 10 MiB of every start otherwise.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    seed = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=_KEY_INFO).derive(secret.encode())
    key = Ed25519PrivateKey.from_private_bytes(seed)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cratepy cluster secret")])
    # Everything in it is fixed, and Ed25519 signs deterministically: every node makes the same certificate.
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2000, 1, 1))
        .not_valid_after(datetime.datetime(9999, 12, 31))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, None)
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # The ssl module reads keys from files only; this one is in memory and has no name.
    memory = os.memfd_create("cratepy-transport", os.MFD_CLOEXEC)
    try:
        os.write(memory, pem + key_pem)
        path = Path(f"/proc/self/fd/{memory}")
        return _contexts(path, path, pem.decode(), "TLS from the cluster secret")
    finally:
        os.close(memory)


def _contexts(certificate: Path, key: Path, trusted: str, name: str) -> TransportSecurity:
    made: list[ssl.SSLContext] = []
    for side in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
        context = ssl.SSLContext(side)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # nodes are known by their id and found at any address
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=trusted)
        context.load_cert_chain(certificate, key)
        made.append(context)
    server, client = made
    return TransportSecurity(server, client, name)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class SecureChannel:
    """TLS of one connection: bytes from the socket in, bytes for the socket out. Raises ssl.SSLError."""

    def __init__(self, security: TransportSecurity, *, is_server: bool) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        context = security.server if is_server else security.client
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=is_server)

    def handshake(self, received: bytes) -> tuple[bytes, bool]:
        """One step: (what to send now, whether the handshake is over on this side)."""
        self._incoming.write(received)
        try:
            self._tls.do_handshake()
            is_done = True
        except ssl.SSLWantReadError:
            is_done = False
        return self._outgoing.read(), is_done

    @property
    def alert(self) -> bytes:
        """What tells the peer why its handshake failed."""
        return self._outgoing.read()

    def encrypt(self, buffers: Iterable[memoryview]) -> bytes:
        for buffer in buffers:
            if len(buffer):
                self._tls.write(buffer)
        return self._outgoing.read()

    def decrypt(self, received: bytes) -> bytes:
        """The plaintext that is complete; empty if there is none yet. b"" for a closed peer is found by the socket."""
        self._incoming.write(received)
        parts = []
        while True:
            try:
                part = self._tls.read(_READ_BYTES)
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                break
            if not part:
                break
            parts.append(part)
        return b"".join(parts)

    def owed(self) -> bytes:
        """What TLS itself has to say after a read (key updates)."""
        return self._outgoing.read()
