"""Seed providers against the real thing where there is one: a file, a DNS server on loopback, an EC2 endpoint's answers."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import dns.flags
import dns.message
import dns.rrset
import pytest
import trio

from cratepy.cluster.seeds import Address, SeedOptions, Seeds

QUERY = "_crate._srv.example.com."


class DnsServer:
    """SRV records over UDP and TCP on one port of loopback; ``is_long`` answers UDP with "too long, ask by TCP"."""

    def __init__(self, records: list[str], *, is_long: bool = False) -> None:
        self._records = records
        self._is_long = is_long
        self.asked: list[str] = []
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        self._threads = [threading.Thread(target=self._serve_udp), threading.Thread(target=self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._tcp.shutdown(socket.SHUT_RDWR)
        self._tcp.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", ("127.0.0.1", self.port))
        for thread in self._threads:
            thread.join()
        self._udp.close()

    def _answer(self, data: bytes, how: str) -> bytes:
        query = dns.message.from_wire(data)
        self.asked.append(how)
        response = dns.message.make_response(query)
        if how == "udp" and self._is_long:
            response.flags |= dns.flags.TC
        elif query.question[0].name.to_text() == QUERY:
            response.answer.append(dns.rrset.from_text(QUERY, 60, "IN", "SRV", *self._records))
        else:
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response.to_wire()

    def _serve_udp(self) -> None:
        while data_and_peer := self._udp.recvfrom(4096):
            data, peer = data_and_peer
            if not data:
                return
            self._udp.sendto(self._answer(data, "udp"), peer)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                (length,) = struct.unpack(">H", stream.read(2))
                answer = self._answer(stream.read(length), "tcp")
                stream.write(struct.pack(">H", len(answer)) + answer)


@contextmanager
def _dns(records: list[str], *, is_long: bool = False) -> Iterator[DnsServer]:
    server = DnsServer(records, is_long=is_long)
    try:
        yield server
    finally:
        server.close()


def _addresses(options: SeedOptions) -> list[Address]:
    return trio.run(Seeds(options).addresses)


def test_a_list_is_parsed_once_and_bad_entries_are_told(caplog: pytest.LogCaptureFixture) -> None:
    seeds = Seeds(SeedOptions(hosts=("a:4301", "[::1]", "b", "c:x", "a:4301")))
    for _ in range(2):
        assert trio.run(seeds.addresses) == [("a", 4301), ("::1", 4300), ("b", 4300)]
    assert caplog.text.count("discovery.seed_hosts") == 1


def test_the_file_is_read_anew_each_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seeds = Seeds(SeedOptions(providers=("file",), config_path=tmp_path))
    assert trio.run(seeds.addresses) == []
    assert "unicast_hosts.txt" in caplog.text
    (tmp_path / "unicast_hosts.txt").write_text("# nodes\n10.0.0.1\n\n[fe80::1]:4301 # the new one\n")
    assert trio.run(seeds.addresses) == [("10.0.0.1", 4300), ("fe80::1", 4301)]
    (tmp_path / "unicast_hosts.txt").write_bytes(b"\xff\xfe")
    assert trio.run(seeds.addresses) == []


def test_srv_records_come_by_priority_and_weight() -> None:
    records = ["20 1 4303 c.example.com.", "10 1 4302 b.example.com.", "10 9 4301 a.example.com."]
    with _dns(records) as server:
        found = _addresses(SeedOptions(providers=("srv",), srv_query=QUERY, srv_resolver=f"127.0.0.1:{server.port}"))
    assert found == [("a.example.com", 4301), ("b.example.com", 4302), ("c.example.com", 4303)]
    assert server.asked == ["udp"]


def test_an_answer_too_long_for_udp_is_asked_for_by_tcp() -> None:
    with _dns(["1 1 4301 a.example.com."], is_long=True) as server:
        found = _addresses(SeedOptions(providers=("srv",), srv_query=QUERY, srv_resolver=f"127.0.0.1:{server.port}"))
    assert found == [("a.example.com", 4301)]
    assert server.asked == ["udp", "tcp"]


@pytest.mark.parametrize(
    ("query", "resolver", "words"),
    [
        ("_x._srv.example.com", "", "does not exist"),
        ("", "", "[discovery.srv.query] is not set"),
        (QUERY, "not-an-ip", "must be an IP address"),
    ],
)
def test_what_dns_cannot_answer_is_told_and_harmless(
    query: str, resolver: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with _dns([]) as server:
        options = SeedOptions(
            hosts=("here:4300",),
            providers=("srv",),
            srv_query=query,
            srv_resolver=resolver or f"127.0.0.1:{server.port}",
        )
        assert _addresses(options) == [("here", 4300)]
    assert words in caplog.text


_INSTANCE = """<item><instancesSet><item><instanceId>{id}</instanceId><privateIpAddress>10.0.0.{id}</privateIpAddress>
<dnsName>pub{id}.example.com</dnsName><groupSet><item><groupName>{group}</groupName><groupId>sg-{id}</groupId></item>
</groupSet></item></instancesSet></item>"""


@contextmanager
def _ec2(status: int = 200) -> Iterator[tuple[str, list[Mapping[str, list[str]]]]]:
    requests: list[Mapping[str, list[str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            requests.append(parse_qs(body))
            found = _INSTANCE.format(id=1, group="db") + _INSTANCE.format(id=2, group="web")
            answer = f"<DescribeInstancesResponse><reservationSet>{found}</reservationSet></DescribeInstancesResponse>"
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _ec2_options(endpoint: str, **more: str) -> SeedOptions:
    names = {name.replace("__", "."): value for name, value in more.items()}
    return SeedOptions(providers=("ec2",), ec2={"endpoint": endpoint, "access_key": "k", "secret_key": "s", **names})


def test_ec2_lists_running_instances_by_tag_zone_and_group() -> None:
    with _ec2() as (endpoint, requests):
        assert _addresses(_ec2_options(endpoint)) == [("10.0.0.1", 4300), ("10.0.0.2", 4300)]
        assert _addresses(_ec2_options(endpoint, groups="db", host_type="public_dns")) == [("pub1.example.com", 4300)]
        assert _addresses(_ec2_options(endpoint, groups="db,web", any_group="false")) == []
        _addresses(_ec2_options(endpoint, tag__role="node", availability_zones="a,b"))
    last = requests[-1]
    assert last["Filter.1.Name"] == ["instance-state-name"]
    assert [last["Filter.2.Name"], last["Filter.2.Value.1"], last["Filter.2.Value.2"]] == [
        ["availability-zone"], ["a"], ["b"],
    ]  # fmt: skip
    assert [last["Filter.3.Name"], last["Filter.3.Value.1"]] == [["tag:role"], ["node"]]


def test_an_ec2_that_refuses_is_told_and_harmless(caplog: pytest.LogCaptureFixture) -> None:
    with _ec2(status=403) as (endpoint, _):
        assert _addresses(_ec2_options(endpoint)) == []
        assert _addresses(_ec2_options(endpoint, host_type="mac")) == []
    assert "discovery.seed_providers: ec2" in caplog.text
    assert "[discovery.ec2.host_type]" in caplog.text


def test_srv_records_without_a_host_or_a_port_are_no_seeds(caplog: pytest.LogCaptureFixture) -> None:
    """RFC 2782: a target of "." says that there is no such service."""
    with _dns(["0 0 4300 .", "0 0 0 n1.example.com."]) as server:
        options = SeedOptions(providers=("srv",), srv_query=QUERY, srv_resolver=f"127.0.0.1:{server.port}")
        assert _addresses(options) == []
    assert "no record names a host and a port" in caplog.text
