"""Bad input gets a clear error and harms nobody else."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.processes import Cluster, Node, SqlError, free_ports, polls


def error_of(node: Node, statement: str, *args: Any) -> tuple[int, int, str]:
    """(HTTP status, code, message) of a statement that must fail."""
    with pytest.raises(SqlError) as caught:
        node.sql(statement, list(args) or None)
    return caught.value.status, caught.value.code, caught.value.message


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Node:
    node = cluster.nodes[0]
    node.sql("CREATE TABLE bad (id INTEGER PRIMARY KEY, n SMALLINT, t TEXT NOT NULL) CLUSTERED INTO 2 SHARDS")
    return node


@pytest.mark.parametrize(
    ("statement", "status", "code", "words"),
    [
        ("SELEC 1", 400, 4000, "line 1:1"),
        ("SELECT 1 FROM", 400, 4000, "line 1:"),
        ("SELECT * FROM nowhere", 404, 4041, "Relation 'nowhere' unknown"),
        ("SELECT * FROM nowhere.t", 404, 4045, "Schema 'nowhere' unknown"),
        ("SELECT nothing FROM bad", 404, 4043, "Column nothing unknown"),
        ("SELECT nothing(1)", 400, 4004, "Unknown function"),
        ("INSERT INTO bad (id, t) VALUES ('x', 'y')", 400, 4000, "Cannot cast"),
        ("INSERT INTO bad (id, n, t) VALUES (1, 70000, 'y')", 400, 4000, "70000"),
        ("INSERT INTO bad (id) VALUES (1)", 400, 4000, "must not be null"),
        ("CREATE TABLE bad (id INTEGER)", 409, 4093, "already exists"),
        ("CREATE TABLE bad2 (id INTEGER) WITH (nonsense = 1)", 400, 4000, "nonsense"),
        ("SELECT 9223372036854775807 + 1", 400, 4000, "overflow"),
        ("SELECT 1 / 0", 400, 4000, "/ by zero"),
        ("SELECT id FROM bad GROUP BY t", 400, 4000, "GROUP BY"),
        ("DROP TABLE nowhere", 404, 4041, "nowhere"),
    ],
)  # fmt: skip
def test_an_error_names_the_thing_and_has_crates_code(
    node: Node, statement: str, status: int, code: int, words: str
) -> None:
    found = error_of(node, statement)
    assert found[:2] == (status, code), found
    assert words.lower() in found[2].lower(), found


def test_a_duplicate_key_is_23505_and_4091(node: Node) -> None:
    node.sql("INSERT INTO bad (id, t) VALUES (1, 'a')")
    assert error_of(node, "INSERT INTO bad (id, t) VALUES (1, 'b')")[:2] == (409, 4091)
    with psycopg.connect(f"host=127.0.0.1 port={node.psql_port} user=crate dbname=doc", autocommit=True) as connection:
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO bad (id, t) VALUES (1, 'b')")
        assert connection.execute("SELECT t FROM bad WHERE id = 1").fetchone() == ("a",)


def test_a_statement_over_the_limit_is_refused_before_it_is_parsed(node: Node) -> None:
    status, code, message = error_of(node, "SELECT '" + "x" * 262_144 + "'")
    assert (status, code) == (400, 4000)
    assert "262144" in message.replace(",", "")


@pytest.mark.parametrize("depth", [200, 5_000, 100_000])
def test_deep_nesting_is_refused_and_the_node_lives(node: Node, depth: int) -> None:
    assert error_of(node, "SELECT " + "(" * depth + "1" + ")" * depth)[1] in (4000, 4004)
    assert node.sql("SELECT 1")["rows"] == [[1]]


def test_an_array_of_300000_elements_is_compared_without_harm(node: Node) -> None:
    """Rows times elements would be gigabytes."""
    node.sql("CREATE TABLE many (id INTEGER) CLUSTERED INTO 3 SHARDS")
    node.sql("INSERT INTO many (id) SELECT i FROM generate_series(1, 30000) AS s(i)")
    node.sql("REFRESH TABLE many")
    wanted = list(range(10_001, 310_001))
    assert node.sql("SELECT count(*) FROM many WHERE id = ANY(?)", [wanted])["rows"] == [[20_000]]
    assert node.sql("SELECT count(*) FROM many WHERE id <> ALL(?)", [wanted])["rows"] == [[10_000]]


def raw_http(node: Node, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", node.http_port), timeout=10) as client:
        client.sendall(request)
        return client.recv(65_536)


def test_malformed_json_is_400_and_the_connection_goes_on(node: Node) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", node.http_port, timeout=10)
    for body, status in ((b"{nonsense", 400), (b'{"stmt": "SELECT 1"}', 200)):
        connection.request("POST", "/_sql", body)
        reply = connection.getresponse()
        text = json.loads(reply.read())
        assert reply.status == status, text
    connection.close()


def test_a_body_over_the_limit_is_413(node: Node) -> None:
    head = b"POST /_sql HTTP/1.1\r\nHost: x\r\nContent-Length: 200000000\r\n\r\n"
    assert raw_http(node, head + b"{").startswith(b"HTTP/1.1 413")


def test_what_is_not_http_is_400(node: Node) -> None:
    assert raw_http(node, b"\x16\x03\x01 this is not http\r\n\r\n").startswith(b"HTTP/1.1 400")


def startup() -> bytes:
    parameters = b"user\0crate\0database\0doc\0\0"
    return struct.pack("!ii", 8 + len(parameters), 196_608) + parameters


@pytest.mark.parametrize(
    "message",
    [
        b"Q" + struct.pack("!i", 3),
        b"Q" + struct.pack("!i", -5),
        b"Q" + struct.pack("!i", 2_000_000_000),
        b"z" + struct.pack("!i", 4),
        b"B" + struct.pack("!i", 6) + b"\0\0",
        b"P" + struct.pack("!i", 8) + b"abcd",
    ],
    ids=["length too small", "negative length", "length too large", "unknown type", "short bind", "no terminator"],
)
def test_a_malformed_frame_ends_its_connection_only(node: Node, message: bytes) -> None:
    with psycopg.connect(f"host=127.0.0.1 port={node.psql_port} user=crate dbname=doc", autocommit=True) as other:
        with socket.create_connection(("127.0.0.1", node.psql_port), timeout=10) as client:
            client.sendall(startup())
            received = b""
            while b"Z\0\0\0\x05I" not in received:
                chunk = client.recv(65_536)
                assert chunk
                received += chunk
            client.sendall(message)
            answer = b""
            while chunk := client.recv(65_536):
                answer += chunk
            assert answer.startswith(b"E")
            assert b"08P01" in answer
        assert other.execute("SELECT 1").fetchone() == (1,)


def start_node(*settings: str, data: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cratepy", "start", "--data", str(data)]
    for setting in settings:
        command += ["-C", setting]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_data_directory_in_use_is_refused(cluster: Cluster) -> None:
    used = cluster.nodes[0].data
    done = start_node("http.port=0-0", data=used)
    assert done.returncode == 1
    assert str(used) in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_port_in_use_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    port = cluster.nodes[0].http_port
    done = start_node(f"http.port={port}", data=tmp_path / "data")
    assert done.returncode == 1
    assert str(port) in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_peer_of_another_cluster_is_refused_and_harmless(cluster: Cluster, tmp_path: Path) -> None:
    """A node with another cluster name and our nodes as seeds stays alone and answers 503."""
    http_port, psql_port, transport_port = free_ports(3)
    stranger = Node(
        name="stranger",
        data=tmp_path / "stranger",
        http_port=http_port,
        psql_port=psql_port,
        transport_port=transport_port,
        settings=(
            "cluster.name=another",
            f"http.port={http_port}",
            f"psql.port={psql_port}",
            f"transport.port={transport_port}",
            "discovery.seed_hosts=" + ",".join(f"127.0.0.1:{node.transport_port}" for node in cluster.nodes),
            "cluster.initial_master_nodes=nobody",
        ),
    )
    stranger.start()
    try:
        status = None
        for _ in polls(20):
            try:
                stranger.sql("SELECT 1", timeout_s=2)
            except SqlError as error:
                status = error.status
                break
            except OSError:
                continue
        assert status == 503
        with pytest.raises(psycopg.OperationalError, match="joined"):
            psycopg.connect(f"host=127.0.0.1 port={psql_port} user=crate dbname=doc")
        assert cluster.nodes[0].sql("SELECT count(*) FROM sys.nodes")["rows"] == [[3]]
    finally:
        stranger.stop()
