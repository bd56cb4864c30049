"""Relations and areas of shapes: the cases of the OGC model by hand, and random shapes against counting on a fine raster."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy
import pyarrow as pa
import pytest

from cratepy import limits
from cratepy.errors import SQLParseError
from cratepy.functions.shape_kernels import points_within
from cratepy.functions.shape_relations import Budget, area, covered_points, covers, intersects, planar
from cratepy.functions.shapes import parse_wkt

SQUARE = "POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0))"
RING = "POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0), (1 1, 1 3, 3 3, 3 1, 1 1))"
HOLE = "POLYGON ((1 1, 3 1, 3 3, 1 3, 1 1))"
HALVES = "GEOMETRYCOLLECTION (POLYGON ((0 0, 2 0, 2 4, 0 4, 0 0)), POLYGON ((4 4, 2 4, 2 0, 4 0, 4 4)))"
#: inner, outer, whether they share a point, whether outer covers inner
RELATIONS: list[tuple[str, str, bool, bool]] = [
    ("POINT (2 2)", SQUARE, True, True),
    ("POINT (4 4)", SQUARE, True, True),
    ("POINT (2 0)", SQUARE, True, True),
    ("POINT (2 -0.0000001)", SQUARE, False, False),
    ("POINT (2 2)", RING, False, False),
    ("POINT (1 2)", RING, True, True),
    ("POINT (0.5 2)", RING, True, True),
    ("POINT (1.5 0.5)", "LINESTRING (0 0, 3 1)", True, True),
    ("POINT (1 1)", "MULTIPOINT (3 3, 1 1)", True, True),
    ("POINT (1 2)", "MULTIPOINT (3 3, 1 1)", False, False),
    ("MULTIPOINT (1 1, 5 5)", SQUARE, True, False),
    ("LINESTRING (1 1, 3 3)", SQUARE, True, True),
    ("LINESTRING (1 1, 5 5)", SQUARE, True, False),
    ("LINESTRING (0 0, 4 0)", SQUARE, True, True),
    ("LINESTRING (-1 0, 5 0)", SQUARE, True, False),
    ("LINESTRING (0.5 0.5, 3.5 3.5)", RING, True, False),
    ("LINESTRING (1 1, 1 3)", RING, True, True),
    ("LINESTRING (1 1, 2 2)", "LINESTRING (0 0, 1.5 1.5, 4 4)", True, True),
    ("LINESTRING (1 1, 2 3)", "LINESTRING (0 0, 4 4)", True, False),
    ("LINESTRING (0 5, 5 5)", SQUARE, False, False),
    (SQUARE, SQUARE, True, True),
    (HOLE, SQUARE, True, True),
    (SQUARE, HOLE, True, False),
    (HOLE, RING, True, False),
    (RING, SQUARE, True, True),
    (SQUARE, RING, True, False),
    ("POLYGON ((1.5 1.5, 2.5 1.5, 2.5 2.5, 1.5 1.5))", RING, False, False),
    ("POLYGON ((3 3, 6 3, 6 6, 3 3))", SQUARE, True, False),
    ("POLYGON ((4 4, 6 4, 6 6, 4 4))", SQUARE, True, False),
    ("POLYGON ((5 5, 6 5, 6 6, 5 5))", SQUARE, False, False),
    (SQUARE, "LINESTRING (0 0, 4 0, 4 4, 0 4, 0 0)", True, False),
    (SQUARE, HALVES, True, True),
    ("POLYGON ((1 1, 3 1, 3 5, 1 1))", HALVES, True, False),
    ("LINESTRING (1 1, 3 2)", HALVES, True, True),
    ("LINESTRING (2 1, 2 3)", HALVES, True, True),
]


def shape(text: str) -> dict[str, Any]:
    return parse_wkt(text)


@pytest.mark.parametrize(("inner", "outer", "do_meet", "is_covered"), RELATIONS)
def test_shapes_meet_and_cover_each_other_as_drawn(inner: str, outer: str, do_meet: bool, is_covered: bool) -> None:
    left, right = planar(shape(inner)), planar(shape(outer))
    assert intersects(left, right) is do_meet
    assert intersects(right, left) is do_meet
    assert covers(right, left) is is_covered


def test_two_polygons_with_a_slit_between_them_do_not_cover_what_lies_across() -> None:
    apart = "MULTIPOLYGON (((0 0, 2 0, 2 4, 0 4, 0 0)), ((2.0000001 0, 4 0, 4 4, 2.0000001 4, 2.0000001 0)))"
    assert not covers(planar(shape(apart)), planar(shape("POLYGON ((1 1, 3 1, 3 3, 1 3, 1 1))")))


def rectangle(left: int, low: int, right: int, high: int) -> str:
    return f"(({left} {low}, {right} {low}, {right} {high}, {left} {high}, {left} {low}))"


def test_unions_of_rectangles_are_related_as_their_cells_are() -> None:
    """A dumb twin: rectangles on a raster of whole degrees are sets of cells; they meet if their closed cells do."""
    chance = random.Random(11)
    for _ in range(300):
        unions = []
        for _ in range(2):
            boxes = []
            for _ in range(chance.randint(1, 3)):
                x, y = chance.randint(0, 6), chance.randint(0, 6)
                boxes.append((x, y, x + chance.randint(1, 4), y + chance.randint(1, 4)))
            cells = {(x, y) for a, b, c, d in boxes for x in range(a, c) for y in range(b, d)}
            text = f"GEOMETRYCOLLECTION ({', '.join('POLYGON ' + rectangle(*box) for box in boxes)})"
            unions.append((planar(shape(text)), cells))
        (left, left_cells), (right, right_cells) = unions
        near = {(x + i, y + j) for x, y in left_cells for i in (-1, 0, 1) for j in (-1, 0, 1)}
        assert intersects(left, right) is bool(near & right_cells)
        assert covers(right, left) is (left_cells <= right_cells)


def circle(count: int, radius: float) -> dict[str, Any]:
    steps = [2 * math.pi * step / count for step in range(count)]
    ring = [[radius * math.cos(angle), radius * math.sin(angle)] for angle in steps]
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


def test_large_shapes_are_compared_within_the_budget() -> None:
    assert covers(planar(circle(5_000, 20.0)), planar(circle(5_000, 19.9)))
    assert not covers(planar(circle(5_000, 19.9)), planar(circle(5_000, 20.0)))


def test_what_would_take_too_long_is_refused() -> None:
    fan = {"type": "LineString", "coordinates": [[(x % 2) * 80.0, (x % 2) * 80.0 - x / 100] for x in range(3_000)]}
    with pytest.raises(SQLParseError, match="too large to be compared"):
        covers(planar(fan), planar(fan))
    budget = Budget()
    budget.spend(limits.SHAPE_CHECKS_MAX)
    with pytest.raises(SQLParseError, match=f"more than {limits.SHAPE_CHECKS_MAX} checks"):
        budget.spend(1)


def test_the_area_is_the_share_of_the_box_on_the_sphere() -> None:
    box = 180 / math.pi * 40 * (math.sin(math.radians(50)) - math.sin(math.radians(10)))
    assert math.isclose(area(shape("POLYGON ((10 10, 50 10, 50 50, 10 50, 10 10))")), box)
    assert math.isclose(area(shape("POLYGON ((10 10, 50 10, 50 50, 10 10))")), box / 2)
    holed = "POLYGON ((10 10, 50 10, 50 50, 10 50, 10 10), (20 20, 20 40, 40 40, 40 20, 20 20))"
    assert math.isclose(area(shape(holed)), box * 0.75)


@pytest.mark.parametrize("text", ["POINT (1 1)", "LINESTRING (0 0, 9 9)", "POLYGON ((1 1, 2 2, 3 3, 1 1))"])
def test_what_has_no_inside_has_no_area(text: str) -> None:
    assert area(shape(text)) == 0.0


def test_the_area_of_a_collection_is_the_sum() -> None:
    parts = ["POLYGON ((0 0, 1 0, 1 1, 0 1, 0 0))", "POLYGON ((5 5, 6 5, 6 6, 5 6, 5 5))"]
    total = area(shape(f"GEOMETRYCOLLECTION ({', '.join(parts)}, POINT (0 0))"))
    assert math.isclose(total, sum(area(shape(part)) for part in parts))


def test_a_point_on_a_slanted_edge_is_on_it_and_one_a_little_beside_is_not() -> None:
    chance = random.Random(5)
    for _ in range(200):
        a, b = ([float(chance.randint(-90, 90)), float(chance.randint(-90, 90))] for _ in range(2))
        x, y = (a[0] + 3 * b[0]) / 4, (a[1] + 3 * b[1]) / 4
        line = planar({"type": "LineString", "coordinates": [a, b]})
        assert covers(line, planar({"type": "Point", "coordinates": [x, y]}))
        assert intersects(line, planar({"type": "MultiPoint", "coordinates": [[x, y], [99.0, 0.0]]}))
        beside = [x, y + 2.0**-40] if a[0] != b[0] else [x + 2.0**-40, y]
        assert not intersects(line, planar({"type": "Point", "coordinates": beside}))


def test_many_points_at_once_are_covered_as_one_by_one() -> None:
    """Corners, points on edges and beside them, tiny coordinates: in doubles and exactly it is the same."""
    chance = random.Random(3)
    for _ in range(60):
        corners = [[float(chance.randint(-5, 5)), float(chance.randint(-5, 5))] for _ in range(chance.randint(3, 25))]
        ring = [*corners, corners[0]]
        outer = planar({"type": "Polygon", "coordinates": [ring]})
        points = [
            [a + (c - a) * part, b + (d - b) * part]
            for (a, b), (c, d) in itertools.pairwise(ring)
            for part in (0, 0.25, 0.5)
        ]
        points += [[chance.uniform(-6, 6), chance.uniform(-6, 6)] for _ in range(50)]
        points += [[x + shift, y] for x, y in points[:20] for shift in (1e-16, -1e-16, 1e-300)]
        xs, ys = (numpy.array([point[axis] for point in points]) for axis in (0, 1))
        at_once = covered_points(outer, xs, ys)
        assert at_once.tolist() == [covers(outer, planar({"type": "Point", "coordinates": p})) for p in points]


def test_the_kernel_leaves_what_it_cannot_do_to_the_rows() -> None:
    points = pa.array([[1.0, 1.0], None, [9.0, 9.0]], pa.list_(pa.float64()))
    square = '{"coordinates":[[[0.0,0.0],[4.0,0.0],[4.0,4.0],[0.0,4.0],[0.0,0.0]]],"type":"Polygon"}'
    assert points_within(points, pa.array([square] * 3)).to_pylist() == [True, None, False]
    assert points_within(points, pa.array([square, square, square.replace("4.0", "3.0")])) is None
    assert points_within(points, pa.array(['{"coordinates":[1.0,1.0],"type":"Point"}'] * 3)) is None
    assert points_within(pa.array([], pa.list_(pa.float64())), pa.array([], pa.string())) is None
