"""The kernel of ``within`` for a column of points and one shape: a hundred times faster than row by row.

In: Arrow arrays of points and of GeoJSON. Out: an Arrow array of booleans, or None if the shape is not the same for all rows or
not made of polygons: then the row function does it.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from cratepy.functions import shape_relations
from cratepy.functions.arrow_kernels import only_value


@functools.lru_cache(maxsize=16)
def _planar(text: str) -> shape_relations.Planar:
    return shape_relations.planar(msgspec.json.decode(text))


def points_within(points: Any, shapes: Any) -> Any | None:
    """Which points the shape covers; NULL for no point."""
    text = only_value(shapes)
    if text is None:
        return None
    outer = _planar(text)
    if not outer.polygons or outer.lines or outer.points:
        return None
    is_null = points.is_null().to_numpy(zero_copy_only=False)
    flat = points.flatten().to_numpy(zero_copy_only=False).reshape(-1, 2)
    found: Any = np.zeros(len(points), dtype=bool)
    found[~is_null] = shape_relations.covered_points(outer, flat[:, 0], flat[:, 1])
    return pa.array(found, mask=is_null)
