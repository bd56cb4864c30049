"""MATCH: conjuncts become queries of the text index, and ORDER BY _score DESC LIMIT k asks it for the best rows only.

After CrateDB's ``LuceneQueryBuilder`` (a conjunct is a query) and Lucene's top-k collectors. A MATCH below OR or NOT stays
what the analyzer made it: a boolean column of its scan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from cratepy.model.expressions import Column, Expression, SortKey
from cratepy.model.relations import BestRows, Limit, Relation, Scan, Sort
from cratepy.sql.plan.rules.limits import rows_wanted
from cratepy.sql.plan.walk import conjunction, conjuncts, disjuncts, map_relations

SCORE = "_score"


def require_matches(relation: Relation) -> Relation:
    """A MATCH that every row has to satisfy goes from the scan's filter to its index query."""
    return map_relations(relation, _required)


def _required(relation: Relation) -> Relation:
    if not isinstance(relation, Scan) or relation.filter is None or not relation.matches:
        return relation
    sources = {match.source for match in relation.matches}
    by_id = {column.id: column.source for column in relation.columns if column.source in sources}
    required: set[str] = set()
    rest = []
    for predicate in conjuncts(relation.filter):
        if isinstance(predicate, Column) and predicate.id in by_id:
            required.add(by_id[predicate.id])
        else:
            rest.append(predicate)
    if not required:
        return _with_alternatives(relation, rest, by_id)
    matches = tuple(
        msgspec.structs.replace(match, is_required=True) if match.source in required else match
        for match in relation.matches
    )
    return msgspec.structs.replace(relation, filter=conjunction(rest), matches=matches)


def _with_alternatives(scan: Scan, predicates: Sequence[Expression], by_id: Mapping[int, str]) -> Scan:
    """``MATCH … OR MATCH …``: the index finds the rows of each."""
    if any(match.is_required for match in scan.matches):
        return scan
    for predicate in predicates:
        terms = disjuncts(predicate)
        sources = tuple(by_id[term.id] for term in terms if isinstance(term, Column) and term.id in by_id)
        if len(sources) == len(terms) > 1:
            return scan if scan.any_of == sources else msgspec.structs.replace(scan, any_of=sources)
    return scan


def take_best_matches(relation: Relation) -> Relation:
    """``ORDER BY _score DESC [, …] LIMIT k`` over a MATCH: each shard gives its best k rows."""
    return map_relations(relation, _best)


def _best(relation: Relation) -> Relation:
    match relation:
        case Limit(child=Sort(child=Scan(best=None, limit=None) as scan, keys=(first, *others)) as sort):
            wanted = rows_wanted(relation)
            if wanted is None or not _is_by_score(scan, first):
                return relation
            if _is_answered_by_index(scan):
                best = BestRows(count=wanted, with_ties=bool(others))
            elif not others and any(match.is_required for match in scan.matches):
                best = BestRows(count=wanted, tests_filter=True)
            else:
                return relation
            scan = msgspec.structs.replace(scan, best=best)
            return msgspec.structs.replace(relation, child=msgspec.structs.replace(sort, child=scan))
        case _:
            return relation


def _is_answered_by_index(scan: Scan) -> bool:
    """Whether the index alone knows which rows the scan gives."""
    if scan.filter is None:
        return any(match.is_required for match in scan.matches)
    return bool(scan.any_of) and len(conjuncts(scan.filter)) == 1


def _is_by_score(scan: Scan, key: SortKey) -> bool:
    if not key.is_descending or not isinstance(key.expression, Column):
        return False
    return any(column.id == key.expression.id and column.source == SCORE for column in scan.columns)
