"""Shapes: well-known text to GeoJSON, and the check that a GeoJSON object is a shape.

In: WKT or a dict. Out: a GeoJSON dict (``{"coordinates": …, "type": …}``). Source: RFC 7946 and OGC's WKT; CrateDB's
GeoJSONUtils. Coordinates are checked for form and number, not for the topology of polygons.
"""

from __future__ import annotations

import re
from typing import Any, Final

from cratepy.functions.parsing import Unparsable

#: WKT word → (GeoJSON type, nesting of coordinates below the list of the word's own parentheses).
_TYPES: Final = {
    "POINT": ("Point", 0),
    "LINESTRING": ("LineString", 1),
    "POLYGON": ("Polygon", 2),
    "MULTIPOINT": ("MultiPoint", 1),
    "MULTILINESTRING": ("MultiLineString", 2),
    "MULTIPOLYGON": ("MultiPolygon", 3),
}
_DEPTHS: Final[dict[str, int]] = dict(_TYPES.values())
_RING_POINTS_MIN: Final = 4
_TOKEN: Final = re.compile(r"\s*([A-Za-z]+|[(),]|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")


def parse_wkt(text: str) -> dict[str, Any]:
    tokens = _tokens(text)
    shape, rest = _shape(tokens, 0, text)
    if rest != len(tokens):
        raise Unparsable(text)
    return shape


def checked_shape(value: Any) -> dict[str, Any]:
    """The object if it is a shape."""
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise Unparsable(str(value))
    kind = value["type"]
    if kind.lower() == "geometrycollection" and isinstance(value.get("geometries"), list):
        return {**value, "geometries": [checked_shape(part) for part in value["geometries"]]}
    names = {name.lower(): name for name in _DEPTHS}
    name = names.get(kind.lower())
    if name is None:
        raise Unparsable(kind)
    return _closed({**value, "coordinates": _floats(value.get("coordinates"), _DEPTHS[name])}, name)


def _closed(shape: dict[str, Any], name: str) -> dict[str, Any]:
    """The shape if the rings of its polygons are closed and all its points are on the earth."""
    polygons = {"Polygon": [shape["coordinates"]], "MultiPolygon": shape["coordinates"]}.get(name, [])
    for ring in (ring for polygon in polygons for ring in polygon):
        if len(ring) < _RING_POINTS_MIN or ring[0] != ring[-1]:
            raise Unparsable("a ring must be closed")
    for longitude, latitude in _points(shape["coordinates"]):
        if not -180 <= longitude <= 180 or not -90 <= latitude <= 90:
            raise Unparsable("a point must be on the earth")
    return shape


def _points(coordinates: Any) -> list[list[float]]:
    if coordinates and isinstance(coordinates[0], float):
        return [coordinates]
    return [point for part in coordinates for point in _points(part)]


def _floats(value: Any, depth: int) -> Any:
    if not isinstance(value, list):
        raise Unparsable(str(value))
    if depth:
        return [_floats(item, depth - 1) for item in value]
    if len(value) != 2 or not all(isinstance(part, int | float) and not isinstance(part, bool) for part in value):
        raise Unparsable(str(value))
    return [float(part) for part in value]


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    stripped = text.rstrip()
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if match is None:
            raise Unparsable(text)
        tokens.append(match[1])
        position = match.end()
    return tokens


def _shape(tokens: list[str], position: int, text: str) -> tuple[dict[str, Any], int]:
    word = tokens[position].upper() if position < len(tokens) else ""
    if word == "GEOMETRYCOLLECTION":
        return _collection(tokens, position + 1, text)
    if word not in _TYPES:
        raise Unparsable(text)
    name, depth = _TYPES[word]
    if depth == 0:
        position = _expect(tokens, position + 1, "(", text)
        point, position = _point(tokens, position, text)
        return {"coordinates": point, "type": name}, _expect(tokens, position, ")", text)
    coordinates, position = _list(tokens, position + 1, depth, text)
    return _closed({"coordinates": coordinates, "type": name}, name), position


def _collection(tokens: list[str], position: int, text: str) -> tuple[dict[str, Any], int]:
    position = _expect(tokens, position, "(", text)
    parts = []
    while True:
        part, position = _shape(tokens, position, text)
        parts.append(part)
        if position < len(tokens) and tokens[position] == ",":
            position += 1
            continue
        return {"geometries": parts, "type": "GeometryCollection"}, _expect(tokens, position, ")", text)


def _list(tokens: list[str], position: int, depth: int, text: str) -> tuple[list[Any], int]:
    position = _expect(tokens, position, "(", text)
    items: list[Any] = []
    while True:
        item: Any
        if depth > 1:
            item, position = _list(tokens, position, depth - 1, text)
        elif position < len(tokens) and tokens[position] == "(":
            item, position = _point(tokens, position + 1, text)
            position = _expect(tokens, position, ")", text)
        else:
            item, position = _point(tokens, position, text)
        items.append(item)
        if position < len(tokens) and tokens[position] == ",":
            position += 1
            continue
        return items, _expect(tokens, position, ")", text)


def _point(tokens: list[str], position: int, text: str) -> tuple[list[float], int]:
    try:
        return [float(tokens[position]), float(tokens[position + 1])], position + 2
    except (ValueError, IndexError) as error:
        raise Unparsable(text) from error


def _expect(tokens: list[str], position: int, wanted: str, text: str) -> int:
    if position >= len(tokens) or tokens[position] != wanted:
        raise Unparsable(text)
    return position + 1
