"""Window functions that are no aggregates: row numbers, ranks, and values of other rows.

``sql`` is the engine's own function; what stands in OVER is rendered by the engine. Source: CrateDB's window functions;
the rank family gives integer. Any aggregate may have OVER, too.
"""

from __future__ import annotations

from typing import Final

from cratepy.functions.signatures import Declaration, signatures

DECLARATIONS: Final[tuple[Declaration, ...]] = (
    Declaration(name="row_number", signatures=signatures("-> integer"), sql="row_number()"),
    Declaration(name="rank", signatures=signatures("-> integer"), sql="rank()"),
    Declaration(name="dense_rank", signatures=signatures("-> integer"), sql="dense_rank()"),
    Declaration(name="percent_rank", signatures=signatures("-> double"), sql="percent_rank()"),
    Declaration(name="cume_dist", signatures=signatures("-> double"), sql="cume_dist()"),
    Declaration(name="ntile", signatures=signatures("integer -> integer"), sql="ntile({0})"),
    Declaration(name="first_value", signatures=signatures("E -> E"), sql="first_value({0})"),
    Declaration(name="last_value", signatures=signatures("E -> E"), sql="last_value({0})"),
    Declaration(name="nth_value", signatures=signatures("E,integer -> E"), sql="nth_value({0}, {1})"),
    Declaration(name="lag", signatures=signatures("E -> E", "E,integer -> E", "E,integer,E -> E"), sql="lag({args})"),
    Declaration(name="lead", signatures=signatures("E -> E", "E,integer -> E", "E,integer,E -> E"), sql="lead({args})"),
)
