"""What two shapes have to do with each other: whether they share a point, whether one covers the other, how large one is.

In: GeoJSON shapes. Out: booleans and square degrees. Its own room because it is plane geometry and nothing else: longitude
and latitude are x and y, edges are straight between them, and nothing goes around the date line.

Coordinates are put on a grid of 2**-60 degrees, finer than doubles of more than a hundredth of a degree, and every
question is then answered with whole numbers, so that a point on an edge is on it. Edges that are far away are sorted out
by their boxes, all at once; what is left is charged to a budget.

Source: the relations are those of the OGC model, "covers" for "contains" as in Spatial4j (a point on the border of a
polygon is within it); the area is Spatial4j's, too: the share of the bounding box on the plane times the box on the sphere.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, Final

import numpy

from cratepy import limits
from cratepy.errors import SQLParseError
from cratepy.records import dataclass

#: Positions on the grid; a place is (x, y, w): a position of x / w, y / w.
Point = tuple[int, int]
Place = tuple[int, int, int]
Ring = tuple[Point, ...]

_GRID_BITS: Final = 60
_DEGREES_PER_RADIAN: Final = 180 / math.pi
#: Boxes that are compared by the array in the time of one check of an edge.
_BOXES_PER_CHECK: Final = 512
#: As many edges are looked at one by one faster than by arrays.
_FEW_EDGES: Final = 16
#: Points times edges that are compared at once: some 8 MiB for each of a few arrays.
_CELLS_MAX: Final = 1_000_000
#: Twice the rounding of a turn that is computed in doubles, and of the grid.
_ROUNDING: Final = 2.0**-49
_OUTSIDE, _BORDER, _INSIDE = -1, 0, 1


class Budget:
    """How many checks of edges a comparison may still make. Raises SQLParseError when there are none left."""

    def __init__(self, checks: int = limits.SHAPE_CHECKS_MAX) -> None:
        self._left = checks

    def spend(self, checks: int) -> None:
        self._left -= checks
        if self._left < 0:
            raise SQLParseError(f"Shapes are too large to be compared: more than {limits.SHAPE_CHECKS_MAX} checks")


class Edges:
    """Edges of lines or of rings, which can be asked for those near a box."""

    def __init__(self, paths: Iterable[Sequence[Point]]) -> None:
        self.pairs: list[tuple[Point, Point]] = [pair for path in paths for pair in itertools.pairwise(path)]
        if len(self.pairs) <= _FEW_EDGES:
            return
        ends = self.ends()
        self._west, self._east = numpy.minimum(ends[:, 0], ends[:, 2]), numpy.maximum(ends[:, 0], ends[:, 2])
        self._south, self._north = numpy.minimum(ends[:, 1], ends[:, 3]), numpy.maximum(ends[:, 1], ends[:, 3])

    def ends(self) -> Any:
        """The edges as rows of x, y, x, y on the grid."""
        return numpy.array([[*a, *b] for a, b in self.pairs], dtype=numpy.float64).reshape(-1, 4)

    def near(self, a: Point, b: Point, budget: Budget) -> list[tuple[Point, Point]]:
        """Those whose box shares a point with the box of the edge a–b, and perhaps a few more: never fewer."""
        if len(self.pairs) <= _FEW_EDGES:
            return self._all(budget)
        west, east = sorted((float(a[0]), float(b[0])))
        south, north = sorted((float(a[1]), float(b[1])))
        is_near = (self._west <= east) & (self._east >= west) & (self._south <= north) & (self._north >= south)
        return self._chosen(is_near, budget)

    def beside(self, place: Place, budget: Budget) -> list[tuple[Point, Point]]:
        """Those that a horizontal line through the place meets."""
        if len(self.pairs) <= _FEW_EDGES:
            return self._all(budget)
        y = place[1] / place[2]
        return self._chosen((self._south <= y) & (self._north >= y), budget)

    def _all(self, budget: Budget) -> list[tuple[Point, Point]]:
        budget.spend(1 + len(self.pairs))
        return self.pairs

    def _chosen(self, mask: Any, budget: Budget) -> list[tuple[Point, Point]]:
        found = [self.pairs[index] for index in numpy.flatnonzero(mask)]
        budget.spend(1 + len(found) + len(self.pairs) // _BOXES_PER_CHECK)
        return found


@dataclass(frozen=True, slots=True)
class Polygon:
    """A ring and the rings of its holes."""

    rings: tuple[Ring, ...]
    edges: Edges


@dataclass(frozen=True, slots=True)
class Planar:
    """The parts of a shape on the grid; ``line_edges`` are those of all lines, ``edges`` those of lines and polygons."""

    points: frozenset[Point]
    lines: tuple[Ring, ...]
    polygons: tuple[Polygon, ...]
    line_edges: Edges
    edges: Edges


def planar(shape: dict[str, Any]) -> Planar:
    """The shape on the grid."""
    points: list[Point] = []
    lines: list[Ring] = []
    polygons: list[Polygon] = []
    for kind, coordinates in _parts(shape):
        if kind == "point":
            points.append(_point(coordinates))
        elif kind == "linestring":
            lines.append(tuple(map(_point, coordinates)))
        else:
            rings = tuple(tuple(map(_point, ring)) for ring in coordinates)
            polygons.append(Polygon(rings, Edges(rings)))
    rings_of_all = [ring for polygon in polygons for ring in polygon.rings]
    return Planar(frozenset(points), tuple(lines), tuple(polygons), Edges(lines), Edges([*lines, *rings_of_all]))


def _parts(shape: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The simple parts of a shape: its kind (point, linestring, polygon) and coordinates."""
    kind = shape["type"].lower()
    if kind == "geometrycollection":
        for part in shape["geometries"]:
            yield from _parts(part)
    elif kind.startswith("multi"):
        for part in shape["coordinates"]:
            yield kind.removeprefix("multi"), part
    else:
        yield kind, shape["coordinates"]


def _point(coordinates: list[float]) -> Point:
    return round(math.ldexp(coordinates[0], _GRID_BITS)), round(math.ldexp(coordinates[1], _GRID_BITS))


# --- the two relations -----------------------------------------------------------------------------------------------


def intersects(left: Planar, right: Planar) -> bool:
    """Whether they share a point; symmetric."""
    budget = Budget()
    if len(left.edges.pairs) > len(right.edges.pairs):
        left, right = right, left
    if any(_touch(pair, other) for pair in left.edges.pairs for other in right.edges.near(*pair, budget)):
        return True
    # No edges meet: a part is in a polygon of the other one with all its points, or with none.
    return any(_covers(right, (*p, 1), budget) for p in _samples(left)) or any(
        _covers(left, (*p, 1), budget) for p in _samples(right)
    )


def covers(outer: Planar, inner: Planar) -> bool:
    """Whether every point of ``inner`` is one of ``outer``."""
    budget = Budget()
    if not all(_covers(outer, (*point, 1), budget) for point in inner.points):
        return False
    for edge in inner.edges.pairs:
        if not all(_covers(outer, place, budget) for place in _pieces(edge, [outer.edges], budget)):
            return False
    return all(_covers_inside(outer, polygon, budget) for polygon in inner.polygons)


def covered_points(outer: Planar, xs: Any, ys: Any) -> Any:
    """Which of many points (arrays of degrees) polygons cover: in doubles, and exactly where doubles cannot tell."""
    assert outer.polygons
    assert not outer.lines
    assert not outer.points
    xs, ys = (numpy.rint(numpy.ldexp(axis, _GRID_BITS)) for axis in (xs, ys))
    found: Any = numpy.zeros(len(xs), dtype=bool)
    for polygon in outer.polygons:
        ends = polygon.edges.ends()
        (west, south), (east, north) = (extreme(ends.reshape(-1, 2), axis=0) for extreme in (numpy.min, numpy.max))
        near = numpy.flatnonzero((xs >= west) & (xs <= east) & (ys >= south) & (ys <= north) & ~found)
        step = max(_CELLS_MAX // len(ends), 1)
        for start in range(0, len(near), step):
            rows = near[start : start + step]
            found[rows] = _covered(polygon, ends, xs[rows], ys[rows])
    return found


def _covered(polygon: Polygon, ends: Any, xs: Any, ys: Any) -> Any:
    """As :func:`_locate`, for rows of points at once."""
    ax, ay, bx, by = ends.T
    dx, dy = bx - ax, by - ay
    x, y = xs[:, None], ys[:, None]
    along, across = dx * (y - ay), dy * (x - ax)
    turn = along - across
    is_met = (numpy.minimum(ay, by) <= y) & (y <= numpy.maximum(ay, by))
    is_passed = (ay > y) != (by > y)
    is_inside = (is_passed & ((turn > 0) == (by > ay))).sum(axis=1) % 2 == 1
    doubtful = is_met & (numpy.abs(turn) <= _ROUNDING * (numpy.abs(along) + numpy.abs(across)))
    for row in numpy.flatnonzero(doubtful.any(axis=1)):
        is_inside[row] = _locate(polygon, (int(xs[row]), int(ys[row]), 1), Budget()) != _OUTSIDE
    return is_inside


def _samples(shape: Planar) -> Iterator[Point]:
    yield from shape.points
    yield from (path[0] for path in shape.lines)
    yield from (ring[0] for polygon in shape.polygons for ring in polygon.rings)


def _covers_inside(outer: Planar, polygon: Polygon, budget: Budget) -> bool:
    """Whether the inside of a polygon, whose rings are covered, is covered, too: no border of outer runs through it."""
    place = _inner_place(polygon, budget)
    if place is not None and not _in_polygons(outer, place, budget):
        return False
    is_single = len(outer.polygons) == 1
    cutters = [polygon.edges] if is_single else [polygon.edges, *(other.edges for other in outer.polygons)]
    for other in outer.polygons:
        for edge in other.edges.pairs:
            for middle in _pieces(edge, cutters, budget):
                if _locate(polygon, middle, budget) != _INSIDE:
                    continue
                if is_single or not _is_covered_on_both_sides(outer, edge, middle, budget):
                    return False
    return True


def _is_covered_on_both_sides(outer: Planar, edge: tuple[Point, Point], middle: Place, budget: Budget) -> bool:
    """Whether another polygon of ``outer`` goes on where the one of the edge ends."""
    locations = [_locate(polygon, middle, budget) for polygon in outer.polygons]
    if _INSIDE in locations:
        return True
    sides: set[int] = set()
    for polygon, at in zip(outer.polygons, locations, strict=True):
        if at == _BORDER:
            sides |= _sides(polygon, edge, middle)
    return len(sides) == 2


def _sides(polygon: Polygon, edge: tuple[Point, Point], middle: Place) -> set[int]:
    """On which sides (1 left, -1 right) of the edge the polygon lies, at a place where its border runs along it."""
    (ax, ay), (bx, by) = edge
    found = set()
    for index, ring in enumerate(polygon.rings):
        inside_left = 1 if (_twice_area(ring) > 0) == (index == 0) else -1
        for p, q in itertools.pairwise(ring):
            if _is_on(middle, p, q):
                along = (q[0] - p[0]) * (bx - ax) + (q[1] - p[1]) * (by - ay)
                found.add(inside_left if along > 0 else -inside_left)
    return found


def _inner_place(polygon: Polygon, budget: Budget) -> Place | None:
    """A place inside, on a horizontal line between two of the corners; None for a polygon without an inside."""
    heights = sorted({y for ring in polygon.rings for _, y in ring})
    for low, high in itertools.pairwise(heights):
        line: Place = (0, low + high, 2)
        y = Fraction(low + high, 2)
        crossings = sorted(
            a[0] + (y - a[1]) * (b[0] - a[0]) / (b[1] - a[1])
            for a, b in polygon.edges.beside(line, budget)
            if min(a[1], b[1]) < y < max(a[1], b[1])
        )
        for west, east in zip(crossings[::2], crossings[1::2], strict=False):
            if west < east:
                x = (west + east) / 2
                return 2 * x.numerator, (low + high) * x.denominator, 2 * x.denominator
    return None


# --- places, edges and polygons --------------------------------------------------------------------------------------


def _covers(shape: Planar, place: Place, budget: Budget) -> bool:
    x, y, w = place
    if w == 1 and (x, y) in shape.points:
        return True
    if _in_polygons(shape, place, budget):
        return True
    if not shape.line_edges.pairs:
        return False
    return any(_is_on(place, a, b) for a, b in shape.line_edges.beside(place, budget))


def _in_polygons(shape: Planar, place: Place, budget: Budget) -> bool:
    return any(_locate(polygon, place, budget) != _OUTSIDE for polygon in shape.polygons)


def _locate(polygon: Polygon, place: Place, budget: Budget) -> int:
    """By the parity of the edges to the east of the place."""
    y, w = place[1], place[2]
    is_inside = False
    for a, b in polygon.edges.beside(place, budget):
        if _is_on(place, a, b):
            return _BORDER
        if (a[1] * w > y) != (b[1] * w > y) and (_turn(a, b, place) > 0) == (b[1] > a[1]):
            is_inside = not is_inside
    return _INSIDE if is_inside else _OUTSIDE


def _turn(a: Point, b: Point, place: Place) -> int:
    """Positive if the place is to the left of a→b, negative if to the right, 0 if it is on the line."""
    x, y, w = place
    return (b[0] - a[0]) * (y - a[1] * w) - (b[1] - a[1]) * (x - a[0] * w)


def _is_on(place: Place, a: Point, b: Point) -> bool:
    x, y, w = place
    if _turn(a, b, place) != 0:
        return False
    return min(a[0], b[0]) * w <= x <= max(a[0], b[0]) * w and min(a[1], b[1]) * w <= y <= max(a[1], b[1]) * w


def _touch(left: tuple[Point, Point], right: tuple[Point, Point]) -> bool:
    (a, b), (c, d) = left, right
    sides = (_sign(_turn(a, b, (*c, 1))), _sign(_turn(a, b, (*d, 1))))
    others = (_sign(_turn(c, d, (*a, 1))), _sign(_turn(c, d, (*b, 1))))
    if sides[0] * sides[1] < 0 and others[0] * others[1] < 0:
        return True
    return _is_on((*c, 1), a, b) or _is_on((*d, 1), a, b) or _is_on((*a, 1), c, d) or _is_on((*b, 1), c, d)


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def _pieces(edge: tuple[Point, Point], cutters: Sequence[Edges], budget: Budget) -> Iterator[Place]:
    """The middles of the pieces into which other edges cut an edge; for an edge without length its point."""
    (px, py), (qx, qy) = edge
    if (px, py) == (qx, qy):
        yield px, py, 1
        return
    cuts = {Fraction(0), Fraction(1)}
    for edges in cutters:
        for other in edges.near(*edge, budget):
            cuts.update(t for t in _cuts(edge, other) if 0 < t < 1)
    for start, end in itertools.pairwise(sorted(cuts)):
        n, m = ((start + end) / 2).as_integer_ratio()
        yield px * m + n * (qx - px), py * m + n * (qy - py), m


def _cuts(edge: tuple[Point, Point], other: tuple[Point, Point]) -> Iterator[Fraction]:
    """Where (0 at the start, 1 at the end) another edge meets an edge; for one that runs along it, both its ends."""
    (px, py), (qx, qy) = edge
    (ax, ay), (bx, by) = other
    dx, dy, ex, ey = qx - px, qy - py, bx - ax, by - ay
    cross = dx * ey - dy * ex
    if cross:
        across = Fraction((ax - px) * dy - (ay - py) * dx, cross)
        if 0 <= across <= 1:
            yield Fraction((ax - px) * ey - (ay - py) * ex, cross)
    elif (ax - px) * dy == (ay - py) * dx:
        length = dx * dx + dy * dy
        yield Fraction((ax - px) * dx + (ay - py) * dy, length)
        yield Fraction((bx - px) * dx + (by - py) * dy, length)


def _twice_area(ring: Sequence[Point]) -> int:
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in itertools.pairwise(ring))


# --- area ------------------------------------------------------------------------------------------------------------


def area(shape: dict[str, Any]) -> float:
    """Square degrees on the sphere; 0 for what has no inside."""
    if shape["type"].lower() == "geometrycollection":
        return math.fsum(area(part) for part in shape["geometries"])
    polygons = [coordinates for kind, coordinates in _parts(shape) if kind == "polygon"]
    rings = [ring for polygon in polygons for ring in polygon]
    if not rings:
        return 0.0
    flat = math.fsum(_flat(ring) if index == 0 else -_flat(ring) for p in polygons for index, ring in enumerate(p))
    xs, ys = [x for ring in rings for x, _ in ring], [y for ring in rings for _, y in ring]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    if flat <= 0 or not width or not height:
        return 0.0
    box = _DEGREES_PER_RADIAN * width * (math.sin(math.radians(max(ys))) - math.sin(math.radians(min(ys))))
    return box * (flat / (width * height))


def _flat(ring: list[list[float]]) -> float:
    """The area on the plane; differences to the first corner keep small shapes far from the origin exact."""
    x0, y0 = ring[0]
    moved = [(x - x0, y - y0) for x, y in ring]
    return abs(math.fsum(a[0] * b[1] - b[0] * a[1] for a, b in itertools.pairwise(moved))) / 2
