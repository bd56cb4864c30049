"""Seed addresses from DNS: SRV records by UDP, by TCP where the answer is too long for UDP.

In: a query such as ``_crate._srv.example.com`` and, if it is not the system's, a resolver. Out: addresses in the order of
the records' priority, then weight. Its own room because dnspython is imported only where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.inet

from cratepy.cluster.seeds import Address, SeedError, parse_address

_DNS_PORT = 53


async def service_records(query: str, resolver_address: str) -> Sequence[Address]:
    """The targets of the SRV records. Raises SeedError."""
    if not query:
        raise SeedError("[discovery.srv.query] is not set")
    try:
        resolver = dns.asyncresolver.Resolver(configure=not resolver_address)
        if resolver_address:
            host, port = _resolver_address(resolver_address)
            resolver.nameservers, resolver.port = [host], port
        answer = await resolver.resolve(query, "SRV", search=False)
    except (dns.exception.DNSException, ValueError, OSError) as error:
        raise SeedError(f"SRV {query}: {error}") from error
    records: list[Any] = sorted(answer, key=lambda r: (r.priority, -r.weight, str(r.target), r.port))
    # A target that is the root says that there is no such service (RFC 2782).
    named = [record for record in records if len(record.target.labels) > 1 and record.port]
    if not named:
        raise SeedError(f"SRV {query}: no record names a host and a port")
    return [(record.target.to_text(omit_final_dot=True), record.port) for record in named]


def _resolver_address(text: str) -> Address:
    """``ip`` or ``ip:port``; the port of DNS unless said otherwise. Raises ValueError."""
    has_port = text.rpartition("]")[2].startswith(":") if text.startswith("[") else text.count(":") == 1
    host, port = parse_address(text)
    if not dns.inet.is_address(host):
        raise ValueError(f"[discovery.srv.resolver] must be an IP address, got {text!r}")
    return host, port if has_port else _DNS_PORT
