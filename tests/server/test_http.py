"""Raw requests and the ``crate`` driver against the listener; behind it a compiler and an execution that are fakes."""

from __future__ import annotations

import gzip
import json
import re
import socket
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import trio
from crate import client as crate_client

from cratepy import limits
from cratepy.errors import RowDivisionByZero
from cratepy.execution.results import Result
from cratepy.model.types import BIGINT, DOUBLE, INTEGER, INTERVAL, NUMERIC, OBJECT, TEXT, DataType, array_of
from cratepy.server.http import HttpServer
from tests.server.fakes import DUPLICATE, Fakes, big_result, columns_of, know_blocking, serving


def talk(client: Callable[[int], Any], fakes: Fakes | None = None) -> Any:
    async def main() -> Any:
        given = fakes or Fakes()
        server = HttpServer(given.services(), node_name="n1")
        with trio.fail_after(20):
            async with serving(server) as port:
                return await trio.to_thread.run_sync(client, port, abandon_on_cancel=True)

    return trio.run(main)


def request(
    body: bytes | str, *, path: str = "/_sql", method: str = "POST", headers: str = "", version: str = "1.1"
) -> bytes:
    data = body.encode() if isinstance(body, str) else body
    return f"{method} {path} HTTP/{version}\r\n{headers}Content-Length: {len(data)}\r\n\r\n".encode() + data


class Wire:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.buffer = b""

    def reply(self, *, has_body: bool = True) -> tuple[int, dict[str, str], bytes]:
        """The next reply; (0, {}, b"") if the server closed the connection."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                return 0, {}, self.buffer
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while True:
                while b"\r\n" not in self.buffer:
                    self._more()
                size = int(self.buffer.partition(b"\r\n")[0], 16)
                start = self.buffer.index(b"\r\n") + 2
                while len(self.buffer) < start + size + 2:
                    self._more()
                body += self.buffer[start : start + size]
                self.buffer = self.buffer[start + size + 2 :]
                if size == 0:
                    break
        elif has_body:
            length = int(headers.get("content-length", 0))
            while len(self.buffer) < length:
                self._more()
            body, self.buffer = self.buffer[:length], self.buffer[length:]
        return int(lines[0].split(" ")[1]), headers, body

    def _more(self) -> bool:
        data = self.socket.recv(65536)
        self.buffer += data
        return bool(data)

    def ask(self, body: bytes | str, **options: Any) -> tuple[int, str]:
        self.socket.sendall(request(body, **options))
        status, _, reply = self.reply()
        return status, re.sub(r'"duration":[0-9.E-]+', '"duration":0.5', reply.decode())


ONE = '{"stmt":"select 1 as a"}'
ONE_REPLY = '{"cols":["a"],"rows":[[1]],"rowcount":1,"duration":0.5}'
UNREADABLE = "Expecting payload with `stmt` string and `args` or `bulk_args` arrays"


def test_replies_are_those_of_the_real_server() -> None:
    """Bodies and statuses from captured/http.jsonl."""
    fakes = Fakes()
    fakes.know("empty", columns_of(("a", INTEGER)), rows=[])
    fakes.know("nothing", columns_of(), rows=[()])

    def client(port: int) -> None:
        wire = Wire(port)
        assert wire.ask(ONE) == (200, ONE_REPLY)
        assert wire.ask(ONE, path="/_sql?types") == (
            200, '{"cols":["a"],"col_types":[9],"rows":[[1]],"rowcount":1,"duration":0.5}',
        )  # fmt: skip
        assert wire.ask(ONE, path="/_sql?types=false") == (200, ONE_REPLY)
        assert wire.ask(ONE, path="/_sql?types=true&types=false") == (200, ONE_REPLY)
        assert wire.ask(ONE, method="PUT") == (200, ONE_REPLY)
        assert wire.ask("\ufeff" + ONE) == (200, ONE_REPLY)
        assert wire.ask('{"stmt":"empty"}') == (200, '{"cols":["a"],"rows":[],"rowcount":0,"duration":0.5}')
        assert wire.ask('{"stmt":"nothing"}') == (200, '{"cols":[],"rows":[[]],"rowcount":1,"duration":0.5}')
        assert wire.ask('{"stmt":"set a = 1"}') == (200, '{"cols":[],"rows":[[]],"rowcount":0,"duration":0.5}')
        assert wire.ask('{"stmt":"  "}') == (200, '{"cols":[],"rows":[],"rowcount":0,"duration":0.5}')
        assert wire.ask('{"stmt":"select 1; select 2"}') == (
            400, '{"error":{"message":"ParsingException[line 1:11: mismatched input \'select\' expecting <EOF>]","code":4000}}',
        )  # fmt: skip
        assert wire.ask('{"stmt":"select nosuch"}') == (
            404, '{"error":{"message":"ColumnUnknownException[Column nosuch unknown]","code":4043}}',
        )  # fmt: skip
        assert wire.ask("") == (400, '{"error":{"message":"SQLParseException[Missing request body]","code":4000}}')
        assert wire.ask("hello") == (
            400, f'{{"error":{{"message":"SQLParseException[Can\'t parse [hello]. {UNREADABLE}]","code":4000}}}}',
        )  # fmt: skip
        both = '{"stmt":"select $1 as x","args":[1],"bulk_args":[[1]]}'
        assert wire.ask(both)[1].startswith('{"error":{"message":"SQLParseException[request body contains args and')
        assert wire.ask('{"stmt":"select 1 as a","bulk_args":[]}') == (200, '{"cols":[],"duration":0.5,"results":[]}')
        assert wire.ask('{"stmt":"select $1 as x","bulk_args":[[1]]}') == (
            400, '{"error":{"message":"UnsupportedFeatureException[Bulk operations for statements that return result sets'
                 ' is not supported]","code":4004}}',
        )  # fmt: skip
        status, body = wire.ask('{"stmt":"select nosuch"}', path="/_sql?error_trace=true")
        assert isinstance(json.loads(body)["error_trace"], str)
        for bad in (
            "{}",
            '{"stmt":null}',
            '{"stmt":""}',
            "[1]",
            '{"stmt":"x","args":1}',
            '{"stmt":"x","bulk_args":[1]}',
        ):
            status, body = wire.ask(bad)
            assert status == 400
            assert "SQLParseSourceException[" in body

    talk(client, fakes)


def test_values_print_as_the_real_server_prints_them() -> None:
    columns = columns_of(
        ("😀", TEXT), ("d", DOUBLE), ("n", NUMERIC), ("i", INTERVAL), ("o", OBJECT), ("b", DataType("bit", length=2)),
        ("r", DataType("real")), ("v", array_of(DOUBLE)),
    )  # fmt: skip
    fakes = Fakes()
    fakes.know("values", columns, rows=[
        ("ä😀", 1e20, "2.50", [0, 1, 0], {"a": [1, None]}, "01", 0.10000000149011612, [1.0, None]),
        (None, float("nan"), None, None, None, None, None, None),
    ])  # fmt: skip

    def client(port: int) -> None:
        assert Wire(port).ask('{"stmt":"values"}')[1] == (
            '{"cols":["\\uD83D\\uDE00","d","n","i","o","b","r","v"],"rows":[["ä\\uD83D\\uDE00",1.0E20,2.50,'
            '"1 day 00:00:00",{"a":[1,null]},"B\'01\'",0.1,[1.0,null]],[null,"NaN",null,null,null,null,null,null]]'
            ',"rowcount":2,"duration":0.5}'
        )

    talk(client, fakes)


def test_a_big_bulk_is_read_beside_the_event_loop_and_as_a_small_one() -> None:
    fakes = Fakes()
    rows = [[number, f"text {number}"] for number in range(5_000)]
    rows[17] = [None, None]

    def client(port: int) -> None:
        body = json.dumps({"stmt": "insert into t values ($1, $2)", "bulk_args": rows})
        assert len(body) > limits.HTTP_INLINE_BODY_BYTES
        status, reply = Wire(port).ask(body)
        assert status == 200
        assert json.loads(reply)["results"] == [{"rowcount": 1}] * 5_000
        rows[3].append("one too many")
        status, reply = Wire(port).ask(json.dumps({"stmt": "insert into t values ($1, $2)", "bulk_args": rows}))
        assert status == 400
        assert "mixed number of arguments" in reply

    talk(client, fakes)
    assert fakes.bulks == [[(number, text) for number, text in [row[:2] for row in rows]]]


def test_a_bulk_reports_every_item() -> None:
    fakes = Fakes()
    fakes.bulk_error_at = {1: DUPLICATE}

    def client(port: int) -> None:
        status, body = Wire(port).ask(
            '{"stmt":"insert into t values ($1, $2)","bulk_args":[[1,"a"],[2,null],["3","c"]]}'
        )
        assert status == 200
        assert body == (
            '{"cols":[],"duration":0.5,"results":[{"rowcount":1},{"rowcount":-2,"error":{"code":4091,"message":'
            '"DuplicateKeyException[A document with the same primary key exists already]"}},{"rowcount":1}]}'
        )

    talk(client, fakes)
    assert fakes.bulks == [[(1, "a"), (2, None), (3, "c")]]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("Content-Encoding: gzip\r\n", gzip.compress(ONE.encode())),
        ("Content-Encoding: deflate\r\n", zlib.compress(ONE.encode())),
        ("Content-Encoding: deflate\r\n", zlib.compress(ONE.encode())[2:-4]),
        ("Content-Encoding: identity\r\n", ONE.encode()),
        ("Content-Type: text/plain\r\n", ONE.encode()),
    ],
)
def test_bodies_come_in_any_encoding(headers: str, body: bytes) -> None:
    assert talk(lambda port: Wire(port).ask(body, headers=headers)) == (200, ONE_REPLY)


def test_a_compressed_body_counts_by_what_comes_out_of_it() -> None:
    bomb = gzip.compress(b" " * (101 * 1024 * 1024))

    def client(port: int) -> None:
        assert Wire(port).ask(bomb, headers="Content-Encoding: gzip\r\n")[0] == 413
        assert Wire(port).ask(b"junk", headers="Content-Encoding: gzip\r\n")[0] == 400

    talk(client)


def test_requests_are_kept_alive_pipelined_and_answered_in_order() -> None:
    def client(port: int) -> None:
        wire = Wire(port)
        wire.socket.sendall(request(ONE) + request('{"stmt":"select nosuch"}') + request(ONE))
        assert [wire.reply()[0] for _ in range(3)] == [200, 404, 200]
        wire.socket.sendall(request(ONE, version="1.0"))
        assert wire.reply()[0] == 200
        assert wire.reply()[0] == 0
        wire = Wire(port)
        wire.socket.sendall(request(ONE, version="1.0", headers="Connection: Keep-Alive\r\n"))
        assert wire.reply()[1]["connection"] == "Keep-Alive"
        assert wire.ask(ONE, headers="Connection: close\r\n") == (200, ONE_REPLY)
        assert wire.reply()[0] == 0

    talk(client)


def test_bodies_are_chunked_and_expected() -> None:
    def client(port: int) -> None:
        wire = Wire(port)
        wire.socket.sendall(b"POST /_sql HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert wire.reply(has_body=False)[0] == 100
        wire.socket.sendall(b"c\r\n" + ONE[:12].encode() + b"\r\nc\r\n" + ONE[12:].encode() + b"\r\n0\r\n\r\n")
        assert wire.reply()[0] == 200

    talk(client)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"POST /_sql HTTP/1.1\r\nContent-Length: 200000000\r\n\r\nx", 413),
        (b"POST /_sql HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX-A: " + b"b" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 70_000, 431),
        (b"POST /_sql HTTP/1.1\r\nExpect: foo\r\n\r\n", 417),
    ],
)
def test_what_is_no_request_is_refused_and_closed(data: bytes, status: int) -> None:
    def client(port: int) -> None:
        other = Wire(port)
        wire = Wire(port)
        wire.socket.sendall(data)
        assert wire.reply()[0] == status
        assert wire.reply()[0] == 0
        assert other.ask(ONE) == (200, ONE_REPLY)

    talk(client)


def test_pages() -> None:
    fakes = Fakes()

    def client(port: int) -> None:
        wire = Wire(port)
        status, body = wire.ask("", path="/", method="GET")
        page = json.loads(body)
        assert (status, page["status"], page["version"]["number"]) == (200, 200, "6.4.3")
        assert body.startswith('{\n  "ok" : true,\n  "status" : 200,\n  "name" : "n1",')
        wire.socket.sendall(request("", path="/", method="HEAD"))
        assert wire.reply(has_body=False)[0] == 200
        assert wire.ask("", path="/nosuch", method="GET") == (404, "Requested file [nosuch] was not found")
        assert wire.ask("", path="/nosuch")[0] == 405
        assert wire.ask("", path="/health/live", method="GET")[0] == 200
        assert wire.ask("", path="/health/ready", method="GET")[0] == 200
        fakes.cluster.is_joined = False
        assert wire.ask("", path="/health/ready", method="GET")[0] == 503
        status, body = wire.ask("", path="/", method="GET")
        assert (status, json.loads(body)["ok"]) == (503, False)
        assert wire.ask('{"stmt":"select 1 as a "}')[0] == 503

    talk(client, fakes)


def test_one_session_lasts_as_long_as_its_connection() -> None:
    def client(port: int) -> None:
        wire = Wire(port)
        show = '{"stmt":"show search_path"}'
        assert '[["foo"]]' in wire.ask(show, headers="Default-Schema: foo\r\n")[1]
        assert '[["foo"]]' in wire.ask(show, headers="Default-Schema: bar\r\n")[1]
        wire.ask('{"stmt":"set search_path to b"}')
        assert '[["b"]]' in wire.ask(show, headers="Authorization: Basic Y3JhdGU6\r\n")[1]
        assert '[["doc"]]' in Wire(port).ask(show)[1]
        assert wire.ask('{"stmt":"begin"}')[0] == 200
        assert wire.ask('{"stmt":"select nosuch"}')[0] == 404
        assert wire.ask(ONE)[0] == 200
        wire.socket.sendall(request(ONE, headers="Authorization: Basic bm9ib2R5Og==\r\n"))
        status, headers, _ = wire.reply()
        assert (status, headers["www-authenticate"]) == (401, 'Basic realm="CrateDB Authenticator"')
        assert wire.reply()[0] == 0

    talk(client)


def test_big_results_are_streamed_and_say_the_state_version() -> None:
    fakes = Fakes()
    fakes.know("big", columns_of(("a", BIGINT), ("b", TEXT)), run=big_result(200_000, 8192))

    def client(port: int) -> None:
        wire = Wire(port)
        wire.socket.sendall(request('{"stmt":"big"}'))
        status, headers, body = wire.reply()
        assert (status, headers["transfer-encoding"], headers["X-Cratepy-State-Version"]) == (200, "chunked", "1")
        result = json.loads(body)
        assert (len(result["rows"]), result["rowcount"], result["rows"][-1]) == (
            200_000,
            200_000,
            [199_999, "text 199999"],
        )
        assert wire.ask(ONE) == (200, ONE_REPLY)
        wire.socket.sendall(request('{"stmt":"big"}', version="1.0"))
        while wire._more():
            pass
        assert len(json.loads(wire.buffer.partition(b"\r\n\r\n")[2])["rows"]) == 200_000

    talk(client, fakes)


def test_an_error_in_a_streamed_reply_breaks_the_connection_off() -> None:
    fakes = Fakes()
    good = big_result(100_000, 8192)

    def run(context: Any) -> Result:
        result = good(context)
        receive = result.receive
        count = 0

        async def failing() -> Any:
            nonlocal count
            count += 1
            if count > 10:
                raise RowDivisionByZero("/ by zero")
            return await receive()

        result.receive = failing  # type: ignore[method-assign]
        return result

    fakes.know("big", columns_of(("a", BIGINT), ("b", TEXT)), run=run)

    def client(port: int) -> None:
        wire = Wire(port)
        wire.socket.sendall(request('{"stmt":"big"}'))
        while wire._more():
            pass
        assert not wire.buffer.endswith(b"0\r\n\r\n")

    talk(client, fakes)


def test_a_client_that_hangs_up_takes_its_statement_with_it() -> None:
    fakes = Fakes()
    know_blocking(fakes)

    async def wait() -> None:
        while not fakes.cancelled:
            await trio.lowlevel.checkpoint()

    def client(port: int) -> None:
        wire = Wire(port)
        wire.socket.sendall(request('{"stmt":"block"}'))
        trio.from_thread.run(fakes.is_blocked.wait)
        wire.socket.close()
        trio.from_thread.run(wait)

    talk(client, fakes)


def test_the_crate_driver_queries_and_writes_in_bulk() -> None:
    fakes = Fakes()

    def client(port: int) -> None:
        connection = crate_client.connect(f"http://127.0.0.1:{port}")
        cursor = connection.cursor()
        cursor.execute("select 1 as a")
        assert cursor.fetchall() == [[1]]
        results = cursor.executemany("insert into t values ($1, $2)", [(i, "x" * 50) for i in range(1000)])
        assert [r["rowcount"] for r in results] == [1] * 1000
        with pytest.raises(crate_client.exceptions.ProgrammingError, match="ColumnUnknownException"):
            cursor.execute("select nosuch")
        connection.close()

    talk(client, fakes)
    assert len(fakes.bulks[0]) == 1000
