"""Scans over text indexes, on shards that search by brute force: what is asked, and that nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest

from cratepy import limits
from cratepy.errors import BadRequest
from cratepy.execution.searching import scan_reader
from cratepy.execution.sources import as_scanned
from cratepy.model.expressions import Call, Column, Expression, InList, Literal, Parameter
from cratepy.model.names import RelationName
from cratepy.model.plan import StatementContext
from cratepy.model.relations import BestRows, Scan, ScanColumn, TextMatch
from cratepy.model.search import IndexedSource, MatchQuery, PrefixQuery, TermsQuery, TextQuery
from cratepy.model.types import BIGINT, BOOLEAN, REAL, TEXT
from cratepy.storage.operations import ColumnRange, SearchRequest

Row = tuple[int, str]


class BruteShard:
    """Rows of (id, text) in ``c1`` and ``c2``; a score is how often the word stands in the text, ids break ties."""

    def __init__(self, *texts: str) -> None:
        self.rows: list[Row] = list(enumerate(texts))
        self.requests: list[SearchRequest | None] = []

    def scan(self, sources: Sequence[str], *, ranges: Sequence[ColumnRange] = ()) -> list[pa.RecordBatch]:
        self.requests.append(None)
        return [self._batch(self.rows, sources, ())]

    def row_count(self) -> int:
        return len(self.rows)

    def estimate_hits(self, query: TextQuery) -> int:
        return sum(_hits(query, text) > 0 for _, text in self.rows)

    def search(self, request: SearchRequest) -> list[pa.RecordBatch]:
        self.requests.append(request)
        found = [row for row in self.rows if all(_hits(q, row[1]) for q in request.queries[: request.required])]
        if request.limit is not None:
            found.sort(key=lambda row: (-_score(request.queries, row[1]), row[0]))
            found = found[: request.limit]
        return [self._batch(found, request.sources, request.queries)] if found else []

    def _batch(self, rows: list[Row], sources: Sequence[str], queries: Sequence[TextQuery]) -> pa.RecordBatch:
        arrays: dict[str, pa.Array] = {}
        for source in sources:
            if source == "_score":
                arrays[source] = pa.array([_score(queries, text) for _, text in rows], pa.float32())
            elif source.startswith("_match_"):
                query = queries[int(source.removeprefix("_match_"))]
                arrays[source] = pa.array([_hits(query, text) > 0 for _, text in rows], pa.bool_())
            else:
                arrays[source] = pa.array([number if source == "c1" else text for number, text in rows])
        if not arrays:
            return pa.record_batch({"rows": pa.nulls(len(rows))}).select([])
        return pa.record_batch(arrays)


def _hits(query: TextQuery, text: str) -> int:
    match query:
        case MatchQuery():
            return text.split().count(query.text)
        case TermsQuery():
            return int(text in query.values)
        case PrefixQuery():
            return int(text.startswith(query.prefix))


def _score(queries: Sequence[TextQuery], text: str) -> float:
    scored = [query for query in queries if isinstance(query, MatchQuery)]
    return sum(float(_hits(query, text)) for query in scored) if scored else 1.0


ID, TITLE, SCORE = ScanColumn(1, "id", BIGINT, "c1"), ScanColumn(2, "t", TEXT, "c2"), ScanColumn(3, "s", REAL, "_score")
TITLE_COLUMN = Column(2, "t", TEXT)


def flag(number: int) -> ScanColumn:
    return ScanColumn(10 + number, f"m{number}", BOOLEAN, f"_match_{number}")


def word(number: int, text: str | Expression, *, is_required: bool = False) -> TextMatch:
    return TextMatch(
        source=f"_match_{number}",
        name="",
        columns=(IndexedSource("c2"),),
        text=Literal(text, TEXT) if isinstance(text, str) else text,
        kind="best_fields",
        is_required=is_required,
    )


def scan(*columns: ScanColumn, **fields: object) -> Scan:
    return Scan(table_uuid="u", table=RelationName("doc", "t"), columns=columns, **fields)  # type: ignore[arg-type]


def rows(query: Scan, shard: BruteShard, *parameters: object) -> list[tuple[object, ...]]:
    context = StatementContext(job_id="j", handler_id="n", user="crate", text="", now_ms=0, parameters=parameters)
    reader = scan_reader(query, context)
    found: list[tuple[object, ...]] = []
    for batch in reader.read(shard):  # type: ignore[arg-type]
        given = as_scanned(batch, query.columns, reader.sources)
        columns = [given.column(i).to_pylist() for i in range(given.num_columns)]
        found.extend(zip(*columns, strict=True) if columns else [()] * given.num_rows)
    return found


SHARD = ("a", "a b", "b b", "c", "a a b", "d")


def test_rows_that_match_come_with_their_score() -> None:
    query = scan(ID, SCORE, matches=(word(0, "a", is_required=True),))
    assert rows(query, BruteShard(*SHARD)) == [(0, 1.0), (1, 1.0), (4, 2.0)]


def test_a_required_match_is_true_and_needs_no_column() -> None:
    query = scan(flag(0), matches=(word(0, "a", is_required=True),))
    shard = BruteShard(*SHARD)
    assert rows(query, shard) == [(True,)] * 3
    assert shard.requests[0] is not None
    assert shard.requests[0].sources == ()


def test_matches_keep_their_columns_when_required_ones_go_first() -> None:
    query = scan(ID, flag(0), flag(2), matches=(word(0, "b"), word(1, "a", is_required=True), word(2, "c")))
    assert rows(query, BruteShard(*SHARD)) == [(0, False, False), (1, True, False), (4, True, False)]


def test_the_text_may_be_a_parameter_but_not_null() -> None:
    query = scan(ID, matches=(word(0, Parameter(0, TEXT), is_required=True),))
    assert rows(query, BruteShard(*SHARD), "d") == [(5,)]
    with pytest.raises(BadRequest, match="cannot use NULL as query term in match predicate"):
        rows(query, BruteShard(*SHARD), None)


def test_the_best_rows_are_asked_for_and_no_others() -> None:
    query = scan(ID, SCORE, matches=(word(0, "a", is_required=True),), best=BestRows(count=Parameter(0, BIGINT)))
    shard = BruteShard(*SHARD)
    assert rows(query, shard, 2) == [(4, 2.0), (0, 1.0)]
    assert [request.limit for request in shard.requests if request] == [2]
    for unusual in (None, 0, -1, limits.BEST_ROWS_MAX + 1):
        assert len(rows(query, shard, unusual)) == 3


def test_with_ties_all_that_score_like_the_last_are_given() -> None:
    texts = ["a a a"] * 3 + ["a a"] * 500 + ["a"] * 2_000
    query = scan(
        ID, SCORE, matches=(word(0, "a", is_required=True),), best=BestRows(count=Literal(5, BIGINT), with_ties=True)
    )
    found = rows(query, BruteShard(*texts))
    assert {number for number, _ in found} >= set(range(503))
    assert len(found) < 2_503
    assert len(rows(query, BruteShard(*["a"] * 20_000))) == 20_000
    assert len(rows(query, BruteShard(*["a"] * 20))) == 20


def kept(query: Scan, shard: BruteShard) -> list[object]:
    """Ids of the rows that the filter (one of the flags) keeps."""
    return [row[0] for row in rows(query, shard) if any(row[1:])]


@pytest.mark.parametrize("best", [None, BestRows(count=Literal(10, BIGINT))])
def test_one_of_several_matches_finds_every_row_once(best: BestRows | None) -> None:
    sources = ("_match_0", "_match_1", "_match_2")
    query = scan(
        ID,
        *(flag(i) for i in range(3)),
        matches=(word(0, "a"), word(1, "b"), word(2, "c")),
        any_of=sources,
        best=best,
    )
    shard = BruteShard(*SHARD)
    assert sorted(map(str, kept(query, shard))) == ["0", "1", "2", "3", "4"]
    assert all(request is not None and request.required == 1 for request in shard.requests)


def test_the_best_of_several_matches_are_among_the_best_of_each() -> None:
    query = scan(
        ID,
        flag(0),
        flag(1),
        matches=(word(0, "a"), word(1, "b")),
        any_of=("_match_0", "_match_1"),
        best=BestRows(count=Literal(2, BIGINT)),
    )
    assert {4, 6} <= set(kept(query, BruteShard(*SHARD, "a b b")))


MANY = [f"a{' a' * (i % 7)} {'x' if i % 3 == 0 else 'y'}" for i in range(6_000)]


@pytest.mark.parametrize(
    ("condition", "asks_twice"),
    [
        (Call("op_like", (TITLE_COLUMN, Literal("%x", TEXT)), BOOLEAN), False),
        (Call("op_=", (Column(1, "id", BIGINT), Literal(0, BIGINT)), BOOLEAN), True),
        # What fails for some row is for whoever reads all rows.
        (
            Call("op_>", (Call("op_/", (Literal(1, BIGINT), Literal(0, BIGINT)), BIGINT), Literal(0, BIGINT)), BOOLEAN),
            True,
        ),
    ],
)
def test_the_best_rows_that_pass_a_filter_are_looked_for_among_the_best(
    condition: Expression, asks_twice: bool
) -> None:
    query = scan(
        ID,
        TITLE,
        SCORE,
        matches=(word(0, "a", is_required=True),),
        filter=condition,
        best=BestRows(count=Literal(10, BIGINT), tests_filter=True),
    )
    shard = BruteShard(*MANY)
    found = rows(query, shard)
    assert [request.limit for request in shard.requests if request] == ([160, None] if asks_twice else [160])
    if not asks_twice:
        best = sorted((-float(text.split().count("a")), i) for i, text in enumerate(MANY) if text.endswith("x"))[:10]
        assert {i for _, i in best} <= {row[0] for row in found}
    # Where few rows match, all of them are read at once.
    shard = BruteShard(*SHARD)
    assert len(rows(query, shard)) == 3
    assert [request.limit for request in shard.requests if request] == [None]


# --- filters that an exact index answers -----------------------------------------------------------------------------

LARGE = [f"t{i % 3}" for i in range(limits.INDEXED_SCAN_ROWS_MIN)] + ["rare", "rarest", "quite_rare"]


def eq(text: str | None) -> Expression:
    return Call("op_=", (TITLE_COLUMN, Literal(text, TEXT)), BOOLEAN)


def like(pattern: str) -> Expression:
    return Call("op_like", (TITLE_COLUMN, Literal(pattern, TEXT)), BOOLEAN)


def both(one: Expression, other: Expression) -> Expression:
    return Call("op_and", (one, other), BOOLEAN)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (eq("rare"), ["rare"]),
        (
            InList(TITLE_COLUMN, (Literal("rare", TEXT), Literal("rarest", TEXT), Literal(None, TEXT))),
            ["rare", "rarest"],
        ),
        (like("rare%"), ["rare", "rarest"]),
        (like("quite\\_rare"), ["quite_rare"]),
        (both(eq("t1"), eq("rare")), ["rare"]),
        (both(Call("op_<", (Column(1, "id", BIGINT), Literal(0, BIGINT)), BOOLEAN), eq("rare")), ["rare"]),
    ],
)
def test_a_selective_filter_asks_the_exact_index(condition: Expression, expected: list[str]) -> None:
    shard = BruteShard(*LARGE)
    query = scan(TITLE, ID, filter=condition, exact_indexes=(("c2", "c9"),))
    found = {row[0] for row in rows(query, shard)}
    assert set(expected) <= found
    assert "t0" not in found
    assert shard.requests[0] is not None
    assert shard.requests[0].scored == ()


@pytest.mark.parametrize(
    "condition",
    [
        eq("t1"),
        eq(None),
        like("%are"),
        like(""),
        like("t%"),
        eq("x" * limits.INDEXED_TERM_BYTES_MAX),
        Call("op_or", (eq("rare"), eq("rarest")), BOOLEAN),
        Call("op_=", (TITLE_COLUMN, TITLE_COLUMN), BOOLEAN),
        InList(TITLE_COLUMN, tuple(Literal(str(i), TEXT) for i in range(limits.INDEXED_TERMS_MAX + 1))),
    ],
)
def test_other_filters_scan(condition: Expression) -> None:
    shard = BruteShard(*LARGE)
    assert len(rows(scan(TITLE, filter=condition, exact_indexes=(("c2", "c9"),)), shard)) == len(LARGE)
    assert shard.requests == [None]


def test_a_small_shard_is_scanned() -> None:
    shard = BruteShard(*SHARD)
    rows(scan(TITLE, filter=eq("d"), exact_indexes=(("c2", "c9"),)), shard)
    assert shard.requests == [None]
