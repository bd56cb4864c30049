"""Sockets, psycopg, asyncpg and psql against the listener; behind it a compiler and an execution that are fakes."""

from __future__ import annotations

import asyncio
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable
from typing import Any

import asyncpg
import psycopg
import pytest
import trio

from cratepy.errors import DocumentMissing, NotJoined
from cratepy.execution.results import Result
from cratepy.model.types import BIGINT, DOUBLE, INTEGER, TEXT
from cratepy.server.postgres import PostgresServer
from tests.protocols.postgres.test_decoder import EXECUTE, STARTUP, bind, frame
from tests.server.fakes import DUPLICATE, Fakes, big_result, columns_of, know_blocking, serving


def talk(client: Callable[[int], Any], fakes: Fakes | None = None, **options: Any) -> Any:
    """Run a blocking client in a thread against a server."""

    async def main() -> Any:
        server = PostgresServer((fakes or Fakes()).services(), **options)
        with trio.fail_after(20):
            async with serving(server) as port:
                return await trio.to_thread.run_sync(client, port, abandon_on_cancel=True)

    return trio.run(main)


class Wire:
    """A raw client: messages as (kind, payload)."""

    def __init__(self, port: int, *, startup: bytes | None = STARTUP) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.buffer = b""
        if startup is not None:
            self.socket.sendall(startup)
            self.greeting = self.until("Z")

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def message(self) -> tuple[str, bytes] | None:
        while len(self.buffer) < 5 or len(self.buffer) < 1 + struct.unpack_from(">i", self.buffer, 1)[0]:
            data = self.socket.recv(65536)
            if not data:
                return None
            self.buffer += data
        length = struct.unpack_from(">i", self.buffer, 1)[0]
        kind, payload = chr(self.buffer[0]), self.buffer[5 : 1 + length]
        self.buffer = self.buffer[1 + length :]
        return kind, payload

    def until(self, last: str) -> list[tuple[str, bytes]]:
        found = []
        while True:
            message = self.message()
            if message is None:
                return [*found, ("<closed>", b"")]
            found.append(message)
            if message[0] == last:
                return found

    def query(self, text: str) -> str:
        """The kinds of the replies, with the tags, the SQLSTATEs and the status."""
        self.send(frame(b"Q", text.encode() + b"\0"))
        return self.kinds()

    def kinds(self) -> str:
        return " ".join(shown(kind, payload) for kind, payload in self.until("Z"))


def shown(kind: str, payload: bytes) -> str:
    if kind == "C":
        return f"C({payload[:-1].decode()})"
    if kind == "E":
        return f"E({sqlstate(payload)})"
    return f"Z{payload.decode()}" if kind == "Z" else kind


def sqlstate(payload: bytes) -> str:
    return next(field[1:] for field in payload.decode().split("\0") if field[:1] == "C")


def parse(text: str, name: str = "s", oids: tuple[int, ...] = ()) -> bytes:
    body = name.encode() + b"\0" + text.encode() + b"\0" + struct.pack(f">H{len(oids)}I", len(oids), *oids)
    return frame(b"P", body)


def plain_bind(statement: str = "s", portal: str = "", values: tuple[bytes, ...] = ()) -> bytes:
    body = f"{portal}\0{statement}\0".encode() + struct.pack(">HH", 0, len(values))
    for value in values:
        body += struct.pack(">i", len(value)) + value
    return frame(b"B", body + b"\0\0")


def execute(portal: str = "", limit: int = 0) -> bytes:
    return frame(b"E", portal.encode() + b"\0" + struct.pack(">i", limit))


SYNC = frame(b"S")


def test_start_up_greets_with_parameters_and_a_key() -> None:
    def client(port: int) -> None:
        wire = Wire(port, startup=None)
        wire.send(struct.pack(">ii", 8, 80877104))
        assert wire.socket.recv(1) == b"N"
        wire.send(struct.pack(">ii", 8, 80877103))
        assert wire.socket.recv(1) == b"N"
        wire.send(STARTUP)
        messages = wire.until("Z")
        statuses = dict(tuple(p[:-1].decode().split("\0")) for k, p in messages if k == "S")
        assert statuses["server_version"] == "14.0"
        assert statuses["client_encoding"] == "UTF8"
        assert statuses["integer_datetimes"] == "on"
        assert [k for k, _ in messages if k != "S"] == ["R", "K", "Z"]
        assert wire.query("show search_path") == "T D C(SHOW 1) ZI"

    talk(client)


def startup(version: int, *words: str) -> bytes:
    body = struct.pack(">i", version) + b"".join(word.encode() + b"\0" for word in words) + b"\0"
    return struct.pack(">i", len(body) + 4) + body


@pytest.mark.parametrize(
    ("data", "state"),
    [
        (startup(196608, "user", "nobody"), "28000"),
        (startup(196608), "28000"),
        (startup(196608, "user", "crate", "options", "--nonsense"), "28000"),
        (startup(196608, "user", "crate", "options", "-c enable_hashjoin=maybe"), "42601"),
        (startup(196608, "user"), "08P01"),
        (startup(131072, "user", "crate"), "0A000"),
        (b"GET / HTTP/1.1\r\n\r\n", "08P01"),
    ],
)
def test_a_start_up_that_cannot_be_is_told_and_closed(data: bytes, state: str) -> None:
    def client(port: int) -> None:
        wire = Wire(port, startup=None)
        wire.send(data)
        messages = wire.until("Z")
        assert [shown(*m) for m in messages] == [f"E({state})", "<closed>"]
        assert b"SFATAL" in messages[0][1]

    talk(client)


def test_before_the_node_has_joined_clients_are_told_to_wait() -> None:
    fakes = Fakes()
    fakes.cluster.is_joined = False

    def client(port: int) -> None:
        with pytest.raises(psycopg.OperationalError, match="node has not joined the cluster yet"):
            psycopg.connect(f"host=127.0.0.1 port={port} user=crate")

    talk(client, fakes)
    assert NotJoined.sqlstate == "57P03"


def test_too_many_connections_are_refused() -> None:
    def client(port: int) -> None:
        first = Wire(port)
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            psycopg.connect(f"host=127.0.0.1 port={port} user=crate")
        assert first.query("select 1 as a") == "T D C(SELECT 1) ZI"

    talk(client, connections_max=1)


def test_several_statements_have_their_own_results_and_tags() -> None:
    def client(port: int) -> None:
        wire = Wire(port)
        assert wire.query("set a = 'b;c'; select 1 as a;; show a") == "S C(SET 0) T D C(SELECT 1) T D C(SHOW 1) ZI"
        assert wire.query("select 1 as a; select nosuch; select 1 as a") == "T D C(SELECT 1) E(42703) ZI"
        assert wire.query("select 1 as a; selct 2") == "E(42601) ZI"
        assert wire.query("") == "I ZI"
        assert wire.query("; -- x") == "I ZI"

    talk(client)


def test_a_failed_transaction_refuses_everything_until_it_ends() -> None:
    fakes = Fakes()

    def client(port: int) -> None:
        wire = Wire(port)
        assert wire.query("begin") == "C(BEGIN) ZT"
        assert wire.query("savepoint a") == "C(SAVEPOINT) ZT"
        assert wire.query("select nosuch") == "E(42703) ZE"
        assert wire.query("select 1 as a") == "E(25P02) ZE"
        assert wire.query("rollback to a") == "C(ROLLBACK) ZT"
        assert wire.query("select nosuch") == "E(42703) ZE"
        assert wire.query("commit") == "C(ROLLBACK) ZI"
        assert wire.query("select 1 as a") == "T D C(SELECT 1) ZI"
        assert wire.query("begin; commit") == "C(BEGIN) C(COMMIT) ZI"
        assert wire.query("rollback") == "N C(ROLLBACK) ZI"

    talk(client, fakes)


def test_rollback_warns_if_rows_were_written() -> None:
    fakes = Fakes()
    fakes.know_write("insert into t values (1)", ())

    def client(port: int) -> None:
        wire = Wire(port)
        wire.query("begin")
        assert wire.query("insert into t values (1)") == "C(INSERT 0 1) ZT"
        wire.send(frame(b"Q", b"rollback\0"))
        messages = wire.until("Z")
        assert b"WARNING" in messages[0][1]
        assert b"stays written" in messages[0][1]
        assert wire.query("begin; rollback") == "C(BEGIN) C(ROLLBACK) ZI"

    talk(client, fakes)


def test_extended_queries_describe_bind_and_execute() -> None:
    def client(port: int) -> None:
        wire = Wire(port)
        wire.send(parse("select $1::int + 1 as a"), frame(b"D", b"Ss\0"), SYNC)
        assert wire.kinds() == "1 t T ZI"
        wire.send(bind([b"\0\0\0\x07"]), frame(b"D", b"P\0"), EXECUTE, SYNC)
        messages = wire.until("Z")
        assert [k for k, _ in messages] == ["2", "T", "D", "C", "Z"]
        assert messages[2][1] == b"\0\x01\0\0\0\x04\0\0\0\x08"
        wire.send(parse("", "e"), plain_bind("e"), frame(b"D", b"P\0"), EXECUTE, SYNC)
        assert wire.kinds() == "1 2 n I ZI"

    talk(client)


def test_errors_skip_to_sync_and_later_work_goes_on() -> None:
    def client(port: int) -> None:
        wire = Wire(port)
        good = parse("select 1 as a", "") + plain_bind("") + EXECUTE
        wire.send(good, parse("select nosuch", ""), plain_bind(""), EXECUTE, good, SYNC, good, SYNC)
        assert wire.kinds() == "1 2 D C(SELECT 1) E(42703) ZI"
        assert wire.kinds() == "1 2 D C(SELECT 1) ZI"
        wire.send(plain_bind("unknown"), SYNC, execute("unknown"), SYNC, frame(b"C", b"Sx\0"), SYNC)
        assert [wire.kinds() for _ in range(3)] == ["E(26000) ZI", "E(34000) ZI", "3 ZI"]
        wire.send(parse("select $1 as x"), plain_bind(values=()), SYNC)
        assert wire.kinds() == "1 E(08P01) ZI"
        wire.send(parse("select $1::int + 1 as a"), plain_bind(values=(b"abc",)), SYNC)
        assert wire.kinds() == "1 E(22P02) ZI"
        wire.send(parse("select 1 as a; select 1 as a"), SYNC, frame(b"F", b""), frame(b"d", b"x"), SYNC)
        assert [wire.kinds() for _ in range(3)] == ["E(42601) ZI", "E(0A000) ZI", "ZI"]

    talk(client)


def test_a_portal_is_executed_in_parts() -> None:
    fakes = Fakes()
    fakes.know("five", columns_of(("a", INTEGER)), rows=[(i,) for i in range(5)])
    fakes.know("big", columns_of(("a", BIGINT), ("b", TEXT)), run=big_result(25, 10))

    def client(port: int) -> None:
        wire = Wire(port)
        wire.send(parse("five", ""), plain_bind(""), execute(limit=2), execute(limit=2), execute(limit=2), SYNC)
        assert wire.kinds() == "1 2 D D s D D s D C(SELECT 1) ZI"
        wire.send(frame(b"Q", b"begin\0"))
        wire.kinds()
        wire.send(parse("big", ""), plain_bind("", "p"), execute("p", 12), SYNC, execute("p"), execute("p"), SYNC)
        assert wire.kinds() == "1 2 " + "D " * 12 + "s ZT"
        assert wire.kinds() == "D " * 13 + "C(SELECT 13) C(SELECT 0) ZT"

    talk(client, fakes)


def test_portals_end_with_their_transaction() -> None:
    def client(port: int) -> None:
        wire = Wire(port)
        wire.send(parse("select 1 as a", ""), plain_bind(""), SYNC, EXECUTE, SYNC)
        assert [wire.kinds() for _ in range(2)] == ["1 2 ZI", "E(34000) ZI"]

    talk(client)


def test_executions_of_one_write_before_a_sync_are_one_bulk() -> None:
    fakes = Fakes()

    def client(port: int) -> None:
        wire = Wire(port)
        pairs = b"".join(bind([struct.pack(">i", i), b"x"]) + EXECUTE for i in range(50))
        wire.send(parse("insert into t values ($1, $2)"), pairs, SYNC)
        assert wire.kinds() == "1 " + "2 C(INSERT 0 1) " * 50 + "ZI"
        described = bind([b"\0\0\0\x01", None]) + frame(b"D", b"P\0") + EXECUTE
        wire.send(described, described, described, bind([b"\0\0\0\x02", None]), EXECUTE, SYNC)
        assert wire.kinds() == "2 n C(INSERT 0 1) " * 3 + "2 C(INSERT 0 1) ZI"
        wire.send(bind([b"\0\0\0\x01", None]), frame(b"D", b"P\0"), SYNC)
        assert wire.kinds() == "2 n ZI"

    talk(client, fakes)
    assert [len(bulk) for bulk in fakes.bulks] == [50, 3]
    assert list(map(tuple, fakes.bulks[0][:2])) == [(0, "x"), (1, "x")]


def test_an_item_that_fails_is_reported_in_its_place() -> None:
    fakes = Fakes()
    fakes.bulk_error_at = {1: DUPLICATE}

    def client(port: int) -> None:
        wire = Wire(port)
        pair = bind([b"\0\0\0\x01", b"x"]) + EXECUTE
        wire.send(parse("insert into t values ($1, $2)"), pair * 3, SYNC)
        assert wire.kinds() == "1 2 C(INSERT 0 1) 2 E(23505) ZI"
        bad = bind([b"\0\0", b"x"]) + EXECUTE
        wire.send(pair, pair, bad, pair, SYNC)
        assert wire.kinds() == "2 C(INSERT 0 1) 2 E(23505) ZI"

    talk(client, fakes)


def test_a_key_that_finds_nothing_is_no_error_among_many_either() -> None:
    """HTTP's bulk requests tell such an item as an error, as CrateDB does; a single UPDATE or DELETE of it changes 0 rows."""
    fakes = Fakes()
    fakes.bulk_error_at = {1: DocumentMissing("[1]: document missing")}

    def client(port: int) -> None:
        wire = Wire(port)
        pair = bind([b"\0\0\0\x01", b"x"]) + EXECUTE
        wire.send(parse("insert into t values ($1, $2)"), pair * 3, SYNC)
        assert wire.kinds() == "1 2 C(INSERT 0 1) 2 C(INSERT 0 0) 2 C(INSERT 0 1) ZI"

    talk(client, fakes)


def test_a_value_that_does_not_decode_stops_its_batch_there() -> None:
    fakes = Fakes()

    def client(port: int) -> None:
        wire = Wire(port)
        pair = bind([b"\0\0\0\x01", b"x"]) + EXECUTE
        wire.send(parse("insert into t values ($1, $2)"), pair, pair, bind([b"\0\0", b"x"]), EXECUTE, pair, SYNC)
        assert wire.kinds() == "1 2 C(INSERT 0 1) 2 C(INSERT 0 1) E(08P01) ZI"

    talk(client, fakes)
    assert [len(bulk) for bulk in fakes.bulks] == [2]


@pytest.mark.parametrize("bad_at", [5, 700, 1_399])
def test_a_value_that_does_not_decode_far_into_a_batch_stops_it_there(bad_at: int) -> None:
    """Items are read as they come; that one of them does not is told when the batch is run."""
    fakes = Fakes()

    def client(port: int) -> None:
        wire = Wire(port)
        pairs = [bind([number.to_bytes(4, "big"), b"x" * 100]) + EXECUTE for number in range(1_400)]
        wire.send(parse("insert into t values ($1, $2)"), *pairs, SYNC)
        assert wire.kinds() == "1 " + "2 C(INSERT 0 1) " * 1_400 + "ZI"
        pairs[bad_at] = bind([b"\0\0", b"x"]) + EXECUTE
        wire.send(*pairs, SYNC)
        assert wire.kinds() == "2 C(INSERT 0 1) " * bad_at + "E(08P01) ZI"

    talk(client, fakes)
    assert [len(bulk) for bulk in fakes.bulks] == [1_400, bad_at]
    assert [row[0] for row in fakes.bulks[0]] == list(range(1_400))


def test_values_that_are_read_one_by_one_are_left_to_a_worker_and_are_the_same() -> None:
    """NULL among numbers, and numbers written as text."""
    fakes = Fakes()
    count = 1_500

    def client(port: int) -> None:
        wire = Wire(port)
        pairs = [
            bind([None if number % 3 else number.to_bytes(4, "big"), b"x" * 60]) + EXECUTE for number in range(count)
        ]
        wire.send(parse("insert into t values ($1, $2)"), *pairs, SYNC)
        assert wire.kinds() == "1 " + "2 C(INSERT 0 1) " * count + "ZI"
        pairs = [bind([b"%d" % number, None], code=0) + EXECUTE for number in range(count)]
        wire.send(*pairs, SYNC)
        assert wire.kinds() == "2 C(INSERT 0 1) " * count + "ZI"

    talk(client, fakes)
    assert fakes.bulks == [
        [(None if number % 3 else number, "x" * 60) for number in range(count)],
        [(number, None) for number in range(count)],
    ]


def test_malformed_frames_end_their_connection_and_no_other() -> None:
    def client(port: int) -> None:
        other = Wire(port)
        for bad in (b"~\0\0\0\x04", b"Q\0\0\0\x03", b"Q\x7f\xff\xff\xff", frame(b"B", b"\0")):
            wire = Wire(port)
            wire.send(bad)
            messages = wire.until("Z")
            assert [shown(*m) for m in messages] == ["E(08P01)", "<closed>"]
            assert b"FATAL" in messages[0][1]
        assert other.query("select 1 as a") == "T D C(SELECT 1) ZI"

    talk(client)


def test_a_cancel_request_stops_the_statement() -> None:
    fakes = Fakes()
    know_blocking(fakes)

    def client(port: int) -> None:
        wire = Wire(port)
        key = next(payload for kind, payload in wire.greeting if kind == "K")
        wire.send(frame(b"Q", b"block\0"))
        trio.from_thread.run(fakes.is_blocked.wait)
        wrong = Wire(port, startup=None)
        wrong.send(struct.pack(">ii", 16, 80877102) + key[:4] + b"\0\0\0\0")
        assert wrong.until("Z") == [("<closed>", b"")]
        right = Wire(port, startup=None)
        right.send(struct.pack(">ii", 16, 80877102) + key)
        assert right.until("Z") == [("<closed>", b"")]
        assert wire.kinds() == "E(57014) ZI"
        assert wire.query("select 1 as a") == "T D C(SELECT 1) ZI"

    talk(client, fakes)


def test_a_client_that_hangs_up_takes_its_statement_with_it() -> None:
    fakes = Fakes()
    know_blocking(fakes)

    async def wait() -> None:
        while not fakes.cancelled:
            await trio.lowlevel.checkpoint()

    def client(port: int) -> None:
        wire = Wire(port)
        wire.send(frame(b"Q", b"block\0"))
        trio.from_thread.run(fakes.is_blocked.wait)
        wire.socket.close()
        trio.from_thread.run(wait)

    talk(client, fakes)


def test_a_client_that_does_not_read_holds_up_itself_only() -> None:
    fakes = Fakes()
    fakes.know("big", columns_of(("a", BIGINT), ("b", TEXT)), run=big_result(300_000, 8192))

    def client(port: int) -> None:
        slow = Wire(port)
        slow.send(frame(b"Q", b"big\0"))
        other = Wire(port)
        assert other.query("select 1 as a") == "T D C(SELECT 1) ZI"
        assert slow.kinds().count("D") == 300_000

    talk(client, fakes)


def test_a_changed_result_type_is_told_in_postgresqls_words() -> None:
    fakes = Fakes()

    def client(port: int) -> None:
        wire = Wire(port)
        wire.send(parse("select 1 as a"), plain_bind(), EXECUTE, SYNC)
        wire.kinds()
        fakes.know("select 1 as a", columns_of(("a", TEXT)), rows=[("x",)])
        fakes.cluster.state = type(fakes.cluster.state)(version=2)
        wire.send(plain_bind(), EXECUTE, SYNC, plain_bind(), EXECUTE, SYNC)
        assert [wire.kinds() for _ in range(2)] == ["E(0A000) ZI", "2 D C(SELECT 1) ZI"]

    talk(client, fakes)


def test_a_prepared_statement_is_compiled_once_per_state() -> None:
    fakes = Fakes()

    def client(port: int) -> None:
        wire = Wire(port)
        wire.send(parse("select 1 as a"), *([plain_bind(), EXECUTE, SYNC] * 3))
        assert [wire.kinds() for _ in range(3)][2] == "2 D C(SELECT 1) ZI"
        wire.send(frame(b"Q", b"discard all\0"), plain_bind(), SYNC)
        assert [wire.kinds() for _ in range(2)][1] == "E(26000) ZI"

    talk(client, fakes)
    assert fakes.compiled.count("select 1 as a") == 1


def pipeline(connection: Any) -> None:
    with connection.pipeline():
        connection.execute("select 1 as a")
        connection.execute("select nosuch")
        connection.execute("select 1 as a")


def test_psycopg_uses_statements_transactions_pipelines_and_cursors() -> None:
    fakes = Fakes()
    fakes.know("select $1 as x, $2 as y", columns_of(("x", TEXT), ("y", DOUBLE)), parameters=(TEXT, DOUBLE),
               run=lambda c: Result(columns=columns_of(("x", TEXT), ("y", DOUBLE)), rows=[c.parameters]))  # fmt: skip

    def client(port: int) -> None:
        with psycopg.connect(f"host=127.0.0.1 port={port} user=crate dbname=doc") as connection:
            assert connection.execute("select 1 as a").fetchall() == [(1,)]
            for i in range(8):
                assert connection.execute("select %s as x, %s as y", (f"é{i}", 1.5)).fetchone() == (f"é{i}", 1.5)
            connection.commit()
            with connection.cursor() as cursor:
                cursor.executemany("insert into t values (%s, %s)", [(i, "x") for i in range(300)])
                assert cursor.rowcount == 300
            with pytest.raises(psycopg.errors.UndefinedColumn):
                connection.execute("select nosuch")
            connection.rollback()
            with connection.transaction(), connection.transaction():
                connection.execute("select 1 as a")
            with connection.cursor("c", scrollable=True) as named:
                named.execute("select 1 as a")
                assert named.fetchall() == [(1,)]
            with pytest.raises(psycopg.errors.UndefinedColumn):
                pipeline(connection)

    talk(client, fakes)
    assert sum(map(len, fakes.bulks)) + sum(1 for c in fakes.contexts if c.text.startswith("insert")) >= 300


def test_asyncpg_uses_binary_values_cursors_and_executemany() -> None:
    fakes = Fakes()
    fakes.know("big", columns_of(("a", BIGINT), ("b", TEXT)), run=big_result(2500))

    async def run(port: int) -> None:
        connection = await asyncpg.connect(host="127.0.0.1", port=port, user="crate", database="doc")
        assert await connection.fetchval("select $1::int + 1 as a", 41) == 42
        assert [r["a"] for r in await connection.fetch("big")] == list(range(2500))
        await connection.executemany("insert into t values ($1, $2)", [(i, "x") for i in range(5000)])
        async with connection.transaction():
            rows = [record["a"] async for record in connection.cursor("big", prefetch=100)]
        assert rows == list(range(2500))
        with pytest.raises(asyncpg.UndefinedColumnError):
            await connection.fetch("select nosuch")
        await connection.reset()
        await connection.close()

    talk(lambda port: asyncio.run(run(port)), fakes)
    assert sum(map(len, fakes.bulks)) == 5000


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
def test_psql_prints_results_and_errors() -> None:
    def client(port: int) -> None:
        done = subprocess.run(
            [
                "psql",
                "-X",
                "-h",
                "127.0.0.1",
                "-p",
                str(port),
                "-U",
                "crate",
                "-At",
                "-c",
                "select 1 as a",
                "-c",
                "selct",
            ],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.stdout == "1\n"
        assert "mismatched input 'selct'" in done.stderr

    talk(client)


@pytest.mark.parametrize("describes", [False, True])
def test_a_read_by_key_in_one_packet_is_answered_as_message_by_message(*, describes: bool) -> None:
    """Bind … Sync at once takes the short way; with a Flush in between it cannot."""

    def client(port: int) -> None:
        wire = Wire(port)
        wire.send(parse("select $1::int + 1 as a"), SYNC)
        wire.until("Z")
        middle = [frame(b"D", b"P\0")] if describes else []
        replies = []
        for value in (b"41", b"x", b"7"):
            wire.send(plain_bind(values=(value,)), *middle, execute(), SYNC)
            together = wire.until("Z")
            wire.send(plain_bind(values=(value,)), *middle, frame(b"H"), execute(), SYNC)
            assert wire.until("Z") == together
            replies.append(" ".join(shown(kind, payload) for kind, payload in together))
        described = "T " if describes else ""
        assert replies == [f"2 {described}D C(SELECT 1) ZI", "E(22P02) ZI", f"2 {described}D C(SELECT 1) ZI"]

    talk(client)


INSERT_ONE = "insert into t values ($1, $2)"


def parsed(port: int, text: str = INSERT_ONE) -> Wire:
    wire = Wire(port)
    wire.send(parse(text), SYNC)
    wire.until("Z")
    return wire


@pytest.mark.parametrize("describes", [False, True])
def test_an_insert_in_one_packet_is_answered_as_message_by_message(*, describes: bool) -> None:
    """Bind … Sync at once takes the short way; with a Flush in between it cannot."""

    def client(port: int) -> None:
        middle = [frame(b"D", b"P\0")] if describes else []
        described = "n " if describes else ""
        for text, wanted in ((INSERT_ONE, "C(INSERT 0 1) ZI"), ("fails", f"E({DUPLICATE.sqlstate}) ZI")):
            wire = parsed(port, text)
            for values in ((b"1", b"a"), (b"x", b"a")):
                wire.send(plain_bind(values=values), *middle, execute(), SYNC)
                together = wire.until("Z")
                wire.send(plain_bind(values=values), *middle, frame(b"H"), execute(), SYNC)
                replies = wire.until("Z")
                assert replies == together or values == (b"x", b"a")
                if values[0] == b"1":
                    assert " ".join(shown(kind, payload) for kind, payload in together) == f"2 {described}{wanted}"

    fakes = Fakes()
    fakes.begins_inserts = True
    fakes.know_write("fails", (INTEGER, TEXT), error=DUPLICATE)
    talk(client, fakes)
    assert [context.parameters for context in fakes.contexts if context.text == INSERT_ONE] == [(1, "a")] * 2


def test_the_reply_to_an_insert_waits_for_the_disk_and_what_follows_for_the_reply() -> None:
    def client(port: int) -> None:
        wire = parsed(port)
        item = [plain_bind(values=(b"1", b"a")), execute(), SYNC]
        # In the packet of the insert, and in one that comes while it waits.
        wire.send(*item, *item, frame(b"Q", b"select 1 as a\0"))
        wire.send(*item)
        wire.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            wire.socket.recv(1)
        assert len(fakes.disk) == 1
        fakes.is_disk_held = False
        fakes.know_write("release", ())
        other = Wire(port)
        other.send(parse("release", ""), plain_bind(""), execute(), SYNC)
        wire.socket.settimeout(10)
        inserted = "2 C(INSERT 0 1) ZI"
        assert [wire.kinds() for _ in range(4)] == [inserted, inserted, "T D C(SELECT 1) ZI", inserted]
        assert other.kinds() == "1 2 C(INSERT 0 1) ZI"

    fakes = Fakes()
    fakes.begins_inserts = fakes.is_disk_held = True
    talk(client, fakes)


def test_an_insert_whose_disk_fails_fails_the_transaction() -> None:
    def client(port: int) -> None:
        wire = parsed(port)
        assert wire.query("begin") == "C(BEGIN) ZT"
        wire.send(plain_bind(values=(b"1", b"a")), execute(), SYNC)
        assert wire.kinds() == f"2 E({DUPLICATE.sqlstate}) ZE"
        wire.send(plain_bind(values=(b"1", b"a")), execute(), SYNC)
        assert wire.kinds() == "2 E(25P02) ZE"

    fakes = Fakes()
    fakes.begins_inserts = True
    succeed = fakes.let_disk_go
    fakes.let_disk_go = lambda error=None: succeed(DUPLICATE)  # type: ignore[method-assign]
    talk(client, fakes)


def test_an_insert_of_a_client_that_went_away_is_stopped() -> None:
    def client(port: int) -> None:
        wire = parsed(port)
        wire.send(plain_bind(values=(b"1", b"a")), execute(), SYNC)
        while not fakes.disk:
            wire.socket.settimeout(0.01)
            with pytest.raises(TimeoutError):
                wire.socket.recv(1)
        wire.socket.close()
        other = Wire(port)
        while not fakes.cancelled:
            assert other.query("select 1 as a") == "T D C(SELECT 1) ZI"

    fakes = Fakes()
    fakes.begins_inserts = fakes.is_disk_held = True
    talk(client, fakes)
    assert fakes.cancelled == [fakes.contexts[0].job_id]


def test_a_reply_that_finds_the_socket_full_is_sent_when_the_client_reads() -> None:
    def client(port: int) -> None:
        wire = parsed(port)
        wire.send(frame(b"Q", b"big\0"), plain_bind(values=(b"1", b"a")), execute(), SYNC)
        for _ in range(3):
            wire.send(plain_bind(values=(b"1", b"a")), execute(), SYNC)
        assert wire.until("Z")[-2][0] == "C"
        assert [wire.kinds() for _ in range(4)] == ["2 C(INSERT 0 1) ZI"] * 4

    fakes = Fakes()
    fakes.begins_inserts = True
    columns = columns_of(("t", TEXT))
    fakes.know("big", columns, rows=[("x" * 1000,)] * 5_000)
    talk(client, fakes)


def test_a_failing_read_by_key_blocks_the_transaction_and_skips_to_sync() -> None:
    def client(port: int) -> None:
        wire = Wire(port)
        wire.send(parse("select fails"), SYNC)
        wire.until("Z")
        assert wire.query("begin") == "C(BEGIN) ZT"
        wire.send(plain_bind(), execute(), SYNC)
        assert wire.kinds() == f"2 E({DUPLICATE.sqlstate}) ZE"
        wire.send(plain_bind(), execute(), SYNC)
        assert wire.kinds() == "2 E(25P02) ZE"

    def fails(context: Any) -> Result:
        raise DUPLICATE

    fakes = Fakes()
    fakes.know("select fails", columns_of(("a", INTEGER)), run=fails)
    talk(client, fakes)
