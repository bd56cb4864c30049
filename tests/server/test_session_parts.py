"""Settings, splitting, the plan cache and cursors."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from cratepy.errors import (
    CrateError,
    CursorExists,
    CursorIsForwardOnly,
    CursorUnknown,
    ParsingError,
    SettingUnknown,
    UnsupportedFeature,
)
from cratepy.execution.results import Result
from cratepy.model.plan import FetchPlan
from cratepy.model.types import BIGINT, INTEGER, TEXT
from cratepy.server.cursors import Cursor
from cratepy.server.session import Session
from cratepy.server.session_settings import SessionSettings, duration_ms, duration_text
from cratepy.server.splitting import is_blank, split_statements
from tests.server.fakes import Fakes, big_result, columns_of


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("select 1", ["select 1"]),
        ("select 1;", ["select 1;"]),
        ("select 1; select 2", ["select 1", "select 2"]),
        ("; ;-- x\n/* y; */ ;", []),
        ("select ';' ; select \"a;b\"; select 'it''s;'", ["select ';' ", 'select "a;b"', "select 'it''s;'"]),
        ("select $$a;b$$; select $x$;$x$", ["select $$a;b$$", "select $x$;$x$"]),
        ("select $1,$2; select 2", ["select $1,$2", "select 2"]),
        ("select e'\\';'; select 2", ["select e'\\';'", "select 2"]),
        ("select 1 /* a /* ; */ ; */; select 2 -- ;\n;", ["select 1 /* a /* ; */ ; */", "select 2 -- ;\n"]),
        ("select 'open; select 2", ["select 'open", "select 2"]),
    ],
)
def test_statements_are_split_at_semicolons_that_count(text: str, pieces: list[str]) -> None:
    found = split_statements(text)
    assert [piece for _, piece in found] == pieces
    assert all(text[offset:].startswith(piece) for offset, piece in found)


def test_blank_is_white_space_comments_and_semicolons() -> None:
    assert is_blank(" ;\n-- x\n/* y */")
    assert not is_blank("/* y */ select 1")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("statement_timeout", "1s", "1s"),
        ("statement_timeout", 500, "500ms"),
        ("statement_timeout", "2 minutes", "2m"),
        ("statement_timeout", "0", "0s"),
        ("datestyle", "ISO, MDY", "ISO"),
        ("client_encoding", "'utf-8'", "UTF8"),
        ("enable_hashjoin", 0, "false"),
        ("Application_Name", "x", "x"),
        ("nosuch", "1", "1"),
        ("search_path", ["s1", "doc"], "s1, doc"),
        ("search_path", "s1, doc", "s1, doc"),
        ("search_path", "", "doc"),
        ("search_path", ['"a,b"', "c"], '"a,b", c'),
        ("search_path", '"a""b",x', '"a""b", x'),
        ("standard_conforming_strings", True, "on"),
        ("timezone", "UTC", "UTC"),
    ],
)
def test_what_is_set_is_shown(name: str, value: Any, shown: str) -> None:
    settings = SessionSettings()
    assert settings.set(name, value) is None
    assert settings.show(name) == shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("statement_timeout", "abc"),
        ("datestyle", "German"),
        ("enable_hashjoin", "maybe"),
        ("memory.operation_limit", "1mb"),
        ("max_index_keys", 5),
        ("server_version", "1"),
        ("standard_conforming_strings", "off"),
        ("server_encoding", "LATIN1"),
    ],
)
def test_what_cannot_be_set_is_refused(name: str, value: Any) -> None:
    with pytest.raises(CrateError):
        SessionSettings().set(name, value)


def test_settings_are_derived_reset_and_unknown_until_set() -> None:
    settings = SessionSettings()
    with pytest.raises(SettingUnknown, match="Unknown session setting name 'nosuch'"):
        settings.show("nosuch")
    settings.set("statement_timeout", "100ms")
    settings.set("search_path", "pg_catalog, x")
    settings.set("optimizer", False)
    assert settings.statement_timeout_s == 0.1
    assert settings.search_path == ("pg_catalog", "x")
    assert settings.changed_values["optimizer_merge_filters"] is False
    assert "ignored" in (settings.set("timezone", "Europe/Vienna") or "")
    assert settings.show("timezone") == "UTC"
    settings.reset(None)
    assert settings.changed_values == {}
    assert settings.statement_timeout_s is None
    assert len(settings.show_all()) == 51
    assert [duration_text(duration_ms(t)) for t in ("1h 30m", "1.5s", "86400s")] == ["90m", "1500ms", "1d"]


def fetch(cursor: Cursor, direction: str, count: int | None = None) -> list[int]:
    async def run() -> list[Any]:
        return await cursor.fetch(FetchPlan(name="c", direction=direction, count=count))

    return [row[0] for row in trio.run(run)]


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_scrollable_cursor_goes_everywhere(is_streamed: bool) -> None:
    """PostgreSQL's positions, where CrateDB's FETCH PRIOR and LAST are wrong."""
    columns = columns_of(("a", BIGINT), ("b", TEXT))
    rows = [(i, "x") for i in range(10)]
    result = big_result(10, 3)(None) if is_streamed else Result(columns=columns, rows=list(rows))  # type: ignore[arg-type]
    cursor = Cursor(result, job_id="j", is_scrollable=True, is_holdable=False)
    assert fetch(cursor, "forward", 3) == [0, 1, 2]
    assert fetch(cursor, "backward", 1) == [1]
    assert fetch(cursor, "absolute", 5) == [4]
    assert fetch(cursor, "relative", -1) == [3]
    assert fetch(cursor, "forward", 0) == [3]
    assert fetch(cursor, "first") == [0]
    assert fetch(cursor, "prior") == []
    assert fetch(cursor, "next") == [0]
    assert fetch(cursor, "last") == [9]
    assert fetch(cursor, "next") == []
    assert fetch(cursor, "prior") == [9]
    assert fetch(cursor, "absolute", -2) == [8]
    assert fetch(cursor, "forward", None) == [9]
    assert fetch(cursor, "backward", None) == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert fetch(cursor, "backward", None) == []


def test_a_forward_cursor_forgets_what_it_passed_and_keeps_its_rows_after_a_refusal() -> None:
    cursor = Cursor(big_result(10, 3)(None), job_id="j", is_scrollable=False, is_holdable=False)  # type: ignore[arg-type]
    assert fetch(cursor, "forward", 4) == [0, 1, 2, 3]
    with pytest.raises(CursorIsForwardOnly):
        fetch(cursor, "backward", 2)
    assert fetch(cursor, "absolute", 6) == [5]
    assert fetch(cursor, "forward", None) == [6, 7, 8, 9]
    assert fetch(cursor, "next") == []


def test_cursors_are_declared_fetched_and_closed_by_statements() -> None:
    fakes = Fakes()

    async def main() -> None:
        session = Session(fakes.services(), user="crate", aborts_transactions=False)

        async def run(text: str) -> Result:
            return await session.execute(await session.compile(text))

        with pytest.raises(UnsupportedFeature, match="transaction blocks"):
            await run("declare c cursor for select 1 as a")
        await run("declare h cursor with hold for select 1 as a")
        await run("begin")
        await run("declare c cursor for select 1 as a")
        with pytest.raises(CursorExists):
            await run("declare c cursor for select 1 as a")
        assert (await run("fetch 5 from c")).rows == [(1,)]
        await run("commit")
        with pytest.raises(CursorUnknown, match="No cursor named `c` available"):
            await run("fetch 1 from c")
        assert (await run("fetch all from h")).rows == [(1,)]
        assert (await run("close h")).rowcount == 1
        await session.aclose()

    trio.run(main)


def test_plans_are_shared_until_state_path_or_settings_change() -> None:
    fakes = Fakes()
    services = fakes.services()

    async def main() -> None:
        one = Session(services, user="crate", aborts_transactions=False)
        two = Session(services, user="crate", aborts_transactions=False)
        first = await one.compile("select 1 as a")
        two.settings.set("application_name", "other")
        assert await two.compile("select 1 as a") is first
        two.settings.set("search_path", "x")
        assert await two.compile("select 1 as a") is not first
        assert await one.compile("select 1 as a", (INTEGER,)) is not first
        fakes.cluster.state = type(fakes.cluster.state)(version=9)
        assert await one.compile("select 1 as a") is not first

    trio.run(main)
    assert len(fakes.compiled) == 4


def test_the_place_of_an_error_is_that_in_the_whole_text() -> None:
    session = Session(Fakes().services(), user="crate", aborts_transactions=False)

    async def main() -> None:
        text = "select 1 as a;\n  selct"
        await session.compile("selct", origin=(text, text.index("selct")))

    with pytest.raises(ParsingError, match="line 2:3: "):
        trio.run(main)
