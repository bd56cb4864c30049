"""Addresses taken apart: parse_uri and parse_url give an object of their parts.

Source: CrateDB's ParseURIFunction (java.net.URI) and ParseURLFunction (java.net.URL with its query's parameters); RFC 3986.
A part that is not there is NULL; what is no address is an error.
"""

from __future__ import annotations

import re
import urllib.parse
from typing import Any, Final

from cratepy.errors import SQLParseError
from cratepy.functions.signatures import Declaration, signatures

#: RFC 3986, appendix B.
_ADDRESS: Final = re.compile(
    r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL
)
_AUTHORITY: Final = re.compile(r"(?:([^@]*)@)?(\[[^\]]*\]|[^:]*)(?::(\d*))?")
_FORBIDDEN: Final = re.compile(r'[\s<>"{}|\\^`]')


def _parts(text: str, name: str) -> tuple[dict[str, Any], bool]:
    """The parts, and whether the address is hierarchical (its path starts with a slash or it has no scheme)."""
    match = _ADDRESS.fullmatch(text)
    if match is None or _FORBIDDEN.search(text):
        raise SQLParseError(f"unable to parse {name} {text}")
    scheme, authority, path, query, fragment = match.groups()
    found = _AUTHORITY.fullmatch(authority) if authority else None
    userinfo, host, port = found.groups() if found is not None else (None, None, None)
    parts = {
        "scheme": scheme,
        "userinfo": userinfo,
        "hostname": host or None,
        "port": int(port) if port else None,
        "path": path,
        "query": query,
        "fragment": fragment,
    }
    return parts, scheme is None or authority is not None or path.startswith("/")


def _parse_uri(text: str) -> dict[str, Any]:
    parts, is_hierarchical = _parts(text, "uri")
    if not is_hierarchical:
        parts |= {"path": None, "query": None}
    if parts["hostname"] is not None and not parts["hostname"].isascii():
        parts["hostname"] = None
    return parts


def _parse_url(text: str) -> dict[str, Any]:
    parts, _ = _parts(text, "url")
    if parts["scheme"] is None:
        raise SQLParseError("URI is not absolute")
    query = parts["query"]
    parameters = urllib.parse.parse_qs(query, keep_blank_values=True) if query else None
    return {**parts, "hostname": parts["hostname"] or "", "parameters": parameters}


DECLARATIONS: Final[tuple[Declaration, ...]] = (
    Declaration(
        name="parse_uri", signatures=signatures("text -> object"), row=_parse_uri, doc="the parts of a URI as an object"
    ),
    Declaration(
        name="parse_url", signatures=signatures("text -> object"), row=_parse_url, doc="the parts of a URL as an object"
    ),
)
