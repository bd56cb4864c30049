"""Functions of points, shapes and vectors: latitude, longitude, distance, geohash, within, intersects, area,
vector_similarity.

A point is ``[longitude, latitude]``, a shape GeoJSON.

Source: CrateDB's geo functions; distance is the haversine formula on a sphere of the mean earth radius.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from cratepy.errors import SQLParseError
from cratepy.functions import shape_relations
from cratepy.functions.shape_kernels import points_within
from cratepy.functions.signatures import Declaration, signatures
from cratepy.functions.values import float32
from cratepy.model.types import DataType

#: Lucene's SloppyMath uses the mean radius of WGS 84.
_EARTH_RADIUS_M: Final = 6_371_008.7714
_GEOHASH_DIGITS: Final = "0123456789bcdefghjkmnpqrstuvwxyz"
_GEOHASH_LENGTH: Final = 12


def _distance(left: list[float], right: list[float]) -> float:
    (longitude1, latitude1), (longitude2, latitude2) = left, right
    phi1, phi2 = math.radians(latitude1), math.radians(latitude2)
    half_chord = (
        math.sin((phi2 - phi1) / 2) ** 2
        + math.cos(phi1) * math.cos(phi2) * math.sin(math.radians(longitude2 - longitude1) / 2) ** 2
    )
    return 2 * _EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(half_chord)))


def _geohash(point: list[float]) -> str:
    bounds = [[-180.0, 180.0], [-90.0, 90.0]]
    digits, value = "", 0
    for bit in range(5 * _GEOHASH_LENGTH):
        axis = bit % 2
        low, high = bounds[axis]
        middle = (low + high) / 2
        is_upper = point[axis] >= middle
        bounds[axis][0 if is_upper else 1] = middle
        value = value * 2 + is_upper
        if bit % 5 == 4:
            digits, value = digits + _GEOHASH_DIGITS[value], 0
    return digits


def _prepared() -> Callable[[Any], shape_relations.Planar]:
    """A shape or point made ready for comparing; the last one is kept, which is the same for all rows if it is a constant."""
    last: tuple[Any, shape_relations.Planar] | None = None

    def prepare(value: Any) -> shape_relations.Planar:
        nonlocal last
        known = last  # one read: kernels of several threads share this function
        if known is not None and known[0] == value:
            return known[1]
        shape = {"type": "Point", "coordinates": value} if isinstance(value, list) else value
        last = value, shape_relations.planar(shape)
        return last[1]

    return prepare


def _within_arrow(arguments: tuple[DataType, ...], _result: DataType) -> Callable[..., Any] | None:
    return points_within if arguments[0].kind == "geo_point" else None


def _within_row(_arguments: tuple[DataType, ...], _result: DataType) -> Callable[..., Any]:
    inner_of, outer_of = _prepared(), _prepared()
    return lambda inner, outer: shape_relations.covers(outer_of(outer), inner_of(inner))


def _intersects_row(_arguments: tuple[DataType, ...], _result: DataType) -> Callable[..., Any]:
    left_of, right_of = _prepared(), _prepared()
    return lambda left, right: shape_relations.intersects(left_of(left), right_of(right))


def _vector_similarity(left: list[float], right: list[float]) -> float:
    """1 / (1 + squared distance), as Lucene scores vectors."""
    if len(left) != len(right):
        raise SQLParseError("Vectors must have same length")
    return float32(1 / (1 + math.fsum((a - b) ** 2 for a, b in zip(left, right, strict=True))))


DECLARATIONS: Final[tuple[Declaration, ...]] = (
    Declaration(name="latitude", signatures=signatures("geo_point -> double"), row=lambda point: float(point[1])),
    Declaration(name="longitude", signatures=signatures("geo_point -> double"), row=lambda point: float(point[0])),
    Declaration(
        name="distance",
        signatures=signatures("geo_point,geo_point -> double"),
        row=_distance,
        doc="metres between two points",
    ),
    Declaration(
        name="vector_similarity",
        signatures=signatures("float_vector,float_vector -> real"),
        row=_vector_similarity,
    ),
    Declaration(
        name="within",
        signatures=signatures("geo_shape,geo_shape -> boolean", "geo_point,geo_shape -> boolean"),
        row_of=_within_row,
        arrow=_within_arrow,
        is_costly=True,
        doc="whether the second shape covers the first",
    ),
    Declaration(
        name="intersects",
        signatures=signatures("geo_shape,geo_shape -> boolean"),
        row_of=_intersects_row,
        is_costly=True,
        doc="whether two shapes share a point",
    ),
    Declaration(
        name="area",
        signatures=signatures("geo_shape -> double"),
        row=shape_relations.area,
        doc="square degrees on the sphere",
    ),
    Declaration(name="geohash", signatures=signatures("geo_point -> text"), row=_geohash),
)
