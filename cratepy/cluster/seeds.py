"""Where to look for other nodes first: seed addresses from a list, a file, DNS or EC2.

In: settings. Out: addresses, asked for anew as long as a node looks for a master, because files and records change. A
provider that fails is logged once per reason and gives nothing; the others go on. Names and formats are CrateDB's
(``discovery.seed_hosts``, ``discovery.seed_providers``: ``file`` reads ``unicast_hosts.txt``, ``srv`` asks for SRV records
in the order of priority and weight, ``ec2`` lists instances).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Final

import trio

from cratepy import limits
from cratepy.records import dataclass

logger = logging.getLogger(__name__)

Address = tuple[str, int]
DEFAULT_PORT: Final = 4300
#: discovery.seed_resolver.timeout: how long one provider may take.
RESOLVE_TIMEOUT_S: Final = 5.0
HOSTS_FILE: Final = "unicast_hosts.txt"
#: Bytes of the hosts file that are read.
_HOSTS_FILE_BYTES_MAX: Final = 1024 * 1024


def parse_address(text: str) -> Address:
    """``host``, ``host:port``, ``[v6]`` or ``[v6]:port``. Raises ValueError."""
    text = text.strip()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"not an address: {text!r}")
        port_text = rest[1:]
    elif text.count(":") > 1:
        host, port_text = text, ""  # an IPv6 address without brackets has no port
    else:
        host, _, port_text = text.partition(":")
    port = int(port_text) if port_text else DEFAULT_PORT
    if not host or not 0 < port < 65_536:
        raise ValueError(f"not an address: {text!r}")
    return host, port


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedOptions:
    """What the operator says, by setting."""

    #: discovery.seed_hosts
    hosts: tuple[str, ...] = ()
    #: discovery.seed_providers: ``file``, ``srv``, ``ec2``.
    providers: tuple[str, ...] = ()
    #: path.conf: the directory of ``unicast_hosts.txt``.
    config_path: Path | None = None
    #: discovery.srv.query and discovery.srv.resolver (``host`` or ``host:port``; empty: the system's).
    srv_query: str = ""
    srv_resolver: str = ""
    #: discovery.ec2.*, without the prefix.
    ec2: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not (self.hosts or self.providers)


class Seeds:
    """All the providers of a node."""

    def __init__(self, options: SeedOptions) -> None:
        self._options = options
        self._complaints: dict[str, str] = {}
        self._providers: dict[str, Callable[[], Awaitable[Sequence[Address]]]] = {}
        for name in options.providers:
            self._providers[name] = {"file": self._from_file, "srv": self._from_srv, "ec2": self._from_ec2}[name]
        self._static = self._parsed("discovery.seed_hosts", options.hosts)

    async def addresses(self) -> list[Address]:
        """The addresses of this moment, without repetitions, at most ``limits.DISCOVERY_PEERS_MAX``."""
        found: dict[str, Sequence[Address]] = {}

        async def ask(name: str, provider: Callable[[], Awaitable[Sequence[Address]]]) -> None:
            try:
                with trio.fail_after(RESOLVE_TIMEOUT_S):
                    found[name] = await provider()
                self._complaints.pop(name, None)
            except trio.TooSlowError:
                self._complain(name, f"no answer within {RESOLVE_TIMEOUT_S:g} s")
            except SeedError as error:
                self._complain(name, str(error))

        async with trio.open_nursery() as nursery:
            for name, provider in self._providers.items():
                nursery.start_soon(ask, name, provider)
        every = [*self._static]
        for name in self._providers:  # in the order of the setting, whoever answered first
            every.extend(found.get(name, ()))
        return list(dict.fromkeys(every))[: limits.DISCOVERY_PEERS_MAX]

    def _complain(self, name: str, reason: str) -> None:
        if self._complaints.get(name) != reason:
            self._complaints[name] = reason
            logger.warning("discovery.seed_providers: %s: %s", name, reason)

    def _parsed(self, name: str, texts: Sequence[str]) -> list[Address]:
        addresses = []
        for text in texts:
            try:
                addresses.append(parse_address(text))
            except ValueError as error:
                self._complain(name, str(error))
        return addresses

    async def _from_file(self) -> Sequence[Address]:
        path = (self._options.config_path or Path("config")) / HOSTS_FILE

        def read() -> str:
            with path.open(encoding="utf-8") as file:
                return file.read(_HOSTS_FILE_BYTES_MAX)

        try:
            text = await trio.to_thread.run_sync(read)
        except (OSError, UnicodeDecodeError) as error:
            raise SeedError(f"cannot read {path}: {error}") from error
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        return self._parsed(str(path), [line for line in lines if line])

    async def _from_srv(self) -> Sequence[Address]:
        from cratepy.cluster.srv import service_records  # dnspython is only needed by who uses it

        return await service_records(self._options.srv_query, self._options.srv_resolver)

    async def _from_ec2(self) -> Sequence[Address]:
        from cratepy.cluster.ec2 import instances

        return await trio.to_thread.run_sync(instances, self._options.ec2, abandon_on_cancel=True)


class SeedError(Exception):
    """A provider gives nothing now; the message says why."""
