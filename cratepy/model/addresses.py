"""IP addresses as values of the type ``ip``: one text for one address.

In: an address as somebody writes it. Out: its normal form. In ``model`` because casts and the wire protocol read the same.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address


def normal_address(text: str) -> str:
    """The normal form; IPv4 written as IPv6 becomes IPv4. Raises ValueError."""
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ValueError(text)
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
    return str(address)
