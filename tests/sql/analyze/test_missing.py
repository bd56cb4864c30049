"""DROP and ALTER of objects of kinds that this server has none of: they are not there, in CrateDB's words."""

from __future__ import annotations

import pytest

from cratepy.model.plan import NoOperationPlan
from cratepy.sql.analyze.statements import AnalyzedDirect
from tests.sql.analyze.helpers import analysis, error_of


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("drop user nosuch", "RoleUnknownException[Role 'nosuch' does not exist]"),
        ("drop role nosuch", "RoleUnknownException[Role 'nosuch' does not exist]"),
        ("alter user nosuch set (password = 'x')", "RoleUnknownException[Role 'nosuch' does not exist]"),
        ("drop user crate", "UnsupportedFeatureException[Cannot drop a superuser 'crate']"),
        ("drop repository nosuch", "RepositoryMissingException[[nosuch] missing]"),
        ("alter repository nosuch set (a = 1)", "RepositoryMissingException[[nosuch] missing]"),
        ("drop snapshot nosuch.snap", "RepositoryMissingException[[nosuch] missing]"),
        ("drop function s.nosuch(int, array(text))", "UserDefinedFunctionUnknownException[Cannot resolve user defined function: 's.nosuch(integer, text_array)']"),
        ("drop publication nosuch", "PublicationUnknownException[Publication 'nosuch' unknown]"),
        ("alter publication nosuch add table t", "PublicationUnknownException[Publication 'nosuch' unknown]"),
        ("drop subscription nosuch", "SubscriptionUnknownException[Subscription 'nosuch' unknown]"),
        ("drop server nosuch cascade", "ResourceNotFoundException[Server `nosuch` not found]"),
        ("drop foreign table nosuch", "RelationUnknown[Relation 'doc.nosuch' unknown]"),
        ("drop blob table nosuch", "RelationUnknown[Relation 'blob.nosuch' unknown]"),
        ("drop function nosuch", "ParsingException[line 1:21: mismatched input '<EOF>' expecting '(']"),
        ("drop repository if exists nosuch", "ParsingException[line 1:17: mismatched input 'if' expecting an identifier]"),
        ("drop user mapping for crate server s", "UnsupportedFeatureException[DROP USER is not supported]"),
        ("select * from lateral (select 1) x", "UnsupportedFeatureException[LATERAL is not supported]"),
        ("select * from sys.nodes n, lateral (select n.id) x", "UnsupportedFeatureException[LATERAL is not supported]"),
        ("select * from sys.nodes n cross join lateral unnest([n.id]) x", "UnsupportedFeatureException[LATERAL is not supported]"),
        ("declare c binary cursor for select 1", "UnsupportedFeatureException[BINARY mode in DECLARE is not supported]"),
        ("create user x", "UnsupportedFeatureException[CREATE USER is not supported]"),
    ],
)  # fmt: skip
def test_it_is_said_not_to_be_there(text: str, error: str) -> None:
    assert error_of(text) == error


@pytest.mark.parametrize(
    ("text", "rowcount"),
    [
        ("drop user if exists nosuch", 0),
        ("drop blob table if exists nosuch", 0),
        ("drop function if exists nosuch()", 1),
        ("drop publication if exists nosuch", 1),
        ("drop server if exists nosuch", 1),
    ],
)
def test_it_need_not_be_there(text: str, rowcount: int) -> None:
    statement = analysis(text).statement
    assert isinstance(statement, AnalyzedDirect)
    assert (statement.plan, statement.tag) == (NoOperationPlan(rowcount=rowcount), "DROP")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("grant dql to eve", "RoleUnknownException[Role 'eve' does not exist]"),
        ("deny dql, dml on schema doc to crate, eve", "RoleUnknownException[Role 'eve' does not exist]"),
        ("revoke all privileges from eve", "RoleUnknownException[Role 'eve' does not exist]"),
        ("grant writers to crate", "RoleUnknownException[Role 'writers' does not exist]"),
        ("grant crate to crate", "SQLParseException[Cannot GRANT a USER to a ROLE]"),
        ("grant all to crate", "UnsupportedFeatureException[Cannot alter privileges for superuser 'crate']"),
        ("revoke dql on table gone from crate", "UnsupportedFeatureException[Cannot alter privileges for superuser 'crate']"),
        ("grant dml on table t, gone to crate", "RelationUnknown[Relation 'gone' unknown]"),
        ("grant dql on view t to crate", "OperationOnInaccessibleRelationException[Expected doc.t to be a VIEW securable but got a relation of type BASE_TABLE]"),
        ("grant dql on schema information_schema to crate", "UnsupportedFeatureException[GRANT/DENY/REVOKE Privileges on information_schema is not supported]"),
        ("grant reading on table t to crate", "SQLParseException[Unknown privilege type 'reading']"),
        ("grant select on table t to crate", "ParsingException[line 1:7: mismatched input 'select' expecting an identifier]"),
        ("grant dql from crate", "ParsingException[line 1:11: mismatched input 'from' expecting 'TO']"),
        ("grant", "ParsingException[line 1:6: mismatched input '<EOF>' expecting an identifier]"),
        ("set session authorization eve", "RoleUnknownException[Role 'eve' does not exist]"),
    ],
)  # fmt: skip
def test_nobody_but_the_superuser_has_privileges(text: str, error: str) -> None:
    assert error_of(text) == error


def test_the_session_may_stay_who_it_is() -> None:
    analysis("set session authorization crate")
    analysis("set session authorization default")
