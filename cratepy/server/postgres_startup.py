"""The start of a PostgreSQL connection: what comes before the first query.

In: a client's socket. Out: a session with the client's settings, its greeting written; or nothing, if this was a cancel
request or a client that must not come in. FATAL errors close the connection (CrateDB leaves some open).
"""

from __future__ import annotations

import re
from typing import assert_never

from cratepy import CRATEDB_VERSION, POSTGRES_VERSION
from cratepy.errors import CrateError, NotJoined, ProtocolViolation, Unauthorized
from cratepy.model.names import CATALOG_NAME
from cratepy.protocols.postgres import encoder
from cratepy.protocols.postgres.decoder import FrontendDecoder
from cratepy.protocols.postgres.messages import CancelRequest, GSSENCRequest, SSLRequest, StartupMessage
from cratepy.records import dataclass
from cratepy.server.authentication import Authenticate
from cratepy.server.session import Session, SessionServices
from cratepy.server.session_settings import SessionSettings
from cratepy.server.sockets import ClientSocket

_OPTION = re.compile(r"(?:-c\s*|--)([A-Za-z_][\w.\-]*)=((?:\\.|[^\s\\])*)\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendKey:
    """What a client names a connection by when it asks to cancel its statement."""

    process_id: int
    secret: int


async def read_startup(client: ClientSocket, decoder: FrontendDecoder) -> StartupMessage | CancelRequest:
    """The message that says what the client wants; refuses encryption as often as it is asked for (twice at most)."""
    refusals = 0
    while True:
        message = decoder.next_startup()
        match message:
            case None:
                decoder.feed(await client.receive())
            case SSLRequest() | GSSENCRequest():
                refusals += 1
                if refusals > 2:
                    raise ProtocolViolation("too many encryption requests")
                client.write(encoder.REFUSED)
                await client.flush()
            case StartupMessage() | CancelRequest():
                return message
            case _:
                assert_never(message)


def open_session(
    message: StartupMessage, services: SessionServices, authenticate: Authenticate, *, client_address: str = ""
) -> Session:
    """The session the client asked for. Raises Unauthorized, NotJoined, and errors of its settings."""
    parameters = dict(message.parameters)
    user = parameters.pop("user", "")
    if not user:
        raise Unauthorized("no PostgreSQL user name specified in startup packet")
    user = authenticate(user, None)
    if not services.cluster.is_joined:
        raise NotJoined("node has not joined the cluster yet")
    session = Session(services, user=user, aborts_transactions=True, client_address=client_address)
    database = parameters.pop("database", "")
    # CrateDB takes the database for the default schema. ``crate`` is what current_database() says and what psql asks
    # for when it is told nothing: it stands for the catalog, not for a schema of that name.
    if database and database != CATALOG_NAME:
        session.settings.set("search_path", [f'"{database}"'])
    parameters.pop("replication", None)
    _apply_options(parameters.pop("options", ""), session.settings)
    for name, value in parameters.items():
        session.settings.set(name, value)
    return session


def _apply_options(options: str, settings: SessionSettings) -> None:
    """``-c name=value`` and ``--name=value``, a backslash before a blank or backslash that is part of the value."""
    position = 0
    text = options.strip()
    while position < len(text):
        match = _OPTION.match(text, position)
        if match is None:
            raise Unauthorized(f"{text[position:]} is not a recognized option")
        settings.set(match.group(1).replace("-", "_"), re.sub(r"\\(.)", r"\1", match.group(2)))
        position = match.end()


def greet(client: ClientSocket, message: StartupMessage, session: Session, key: BackendKey) -> None:
    """Everything from AuthenticationOk to ReadyForQuery."""
    if message.minor > 0 or message.unrecognized:
        client.write(encoder.negotiate_protocol_version(message.unrecognized))
    client.write(encoder.AUTHENTICATION_OK)
    show = session.settings.show
    for name, value in (
        ("crate_version", CRATEDB_VERSION),
        ("server_version", POSTGRES_VERSION),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("datestyle", "ISO"),
        # PostgreSQL's spelling, which libpq and npgsql look for.
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "UTC"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
        ("IntervalStyle", "postgres"),
        ("application_name", show("application_name") or ""),
        ("is_superuser", "on"),
        ("session_authorization", session.user),
        ("default_transaction_read_only", "off"),
        ("in_hot_standby", "off"),
    ):
        client.write(encoder.parameter_status(name, value))
    client.write(encoder.backend_key_data(key.process_id, key.secret))
    client.write(encoder.READY_FOR_QUERY["I"])


async def refuse(client: ClientSocket, error: CrateError) -> None:
    """Say FATAL; the caller closes."""
    client.write(encoder.error_response(error, severity="FATAL"))
    await client.flush()
    await client.linger()
