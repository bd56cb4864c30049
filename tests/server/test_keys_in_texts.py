"""A key that is written in the text is exchanged only where compiling the other text would give just that."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from cratepy.errors import CrateError
from cratepy.execution.engine.constants import fold
from cratepy.model.names import RelationName
from cratepy.model.plan import CompiledStatement, GetPlan
from cratepy.model.schema import ColumnDefinition, TableDefinition, ViewDefinition
from cratepy.model.state import ClusterState, NodeInfo, ShardCopy, ShardRouting, TableState
from cratepy.model.types import BIGINT, INTEGER, TEXT, TIMESTAMPTZ, DataType
from cratepy.server.keys_in_texts import KeysInTexts
from cratepy.sql.compiler import compile_text
from cratepy.sql.session_view import SessionView

SEVEN = "SELECT a FROM big WHERE id = 7"
VIEW_KEY: tuple[Any, ...] = ("crate",)


def _table(name: str, key: DataType) -> TableState:
    columns = [("id", key), ("a", INTEGER), ("b", TEXT)]
    definition = TableDefinition(
        name=RelationName("doc", name),
        uuid=f"uuid-{name}",
        oid=100,
        columns=tuple(ColumnDefinition(oid=i, name=n, type=t) for i, (n, t) in enumerate(columns, 1)),
        primary_key=("id",),
        shards=1,
    )
    copy = ShardCopy(allocation_id="a0", node_id="n1", is_primary=True, state="started")
    return TableState(definition, (ShardRouting(shard=0, primary_term=1, in_sync=("a0",), copies=(copy,)),))


NODE = NodeInfo(id="n1", name="n1", ephemeral_id="e", host="h", transport_port=1, http_port=2, psql_port=3)
TABLES = (_table("big", BIGINT), _table("small", INTEGER), _table("words", TEXT), _table("times", TIMESTAMPTZ))
VIEW = ViewDefinition(RelationName("doc", "seven"), 200, "SELECT id, a FROM doc.big WHERE id = 7", "crate")
STATE = ClusterState(
    version=7,
    master_id="n1",
    nodes={"n1": NODE},
    tables={table.definition.uuid: table for table in TABLES},
    views={"doc.seven": VIEW},
)


def compiled(text: str, state: ClusterState = STATE) -> CompiledStatement:
    (found,) = compile_text(
        text,
        parameter_types=(),
        session=SessionView(),
        state=state,
        handler_id="n1",
        fold=fold,
        new_id=lambda: "new",
        now_ms=0,
    )
    return found


def found_after(learned: str, text: str) -> CompiledStatement | None:
    reads = KeysInTexts()
    reads.learn(learned, compiled(learned), VIEW_KEY, STATE)
    return reads.find(text, VIEW_KEY)


def test_the_key_of_a_read_is_exchanged() -> None:
    for learned, text in (
        ("SELECT id, a FROM big WHERE id = 7", "SELECT id, a FROM big WHERE id = 8000000000"),
        (
            "select * from doc.small where id=1 limit 1;",
            "select * from doc.small where id=2 limit 1;",
        ),
        ('SELECT "a" AS x FROM "words" WHERE words.id = \'it\'', 'SELECT "a" AS x FROM "words" WHERE words.id = \'\''),
    ):
        found = found_after(learned, text)
        assert found == compiled(text), text
        assert isinstance(found.plan, GetPlan)


def test_anything_else_is_compiled() -> None:
    for learned, text in (
        ("SELECT a FROM big WHERE id = 7", "SELECT b FROM big WHERE id = 8"),
        ("SELECT a FROM big WHERE id = 7", "SELECT a FROM big WHERE id = 8 AND a = 1"),
        ("SELECT a FROM big WHERE id = 7", "SELECT a FROM big WHERE id = 8::bigint"),
        ("SELECT a FROM big WHERE id = 7", "SELECT a FROM big WHERE id = '8'"),
        ("SELECT a FROM small WHERE id = 7", "SELECT a FROM small WHERE id = 2147483648"),
        ("SELECT a FROM small WHERE id = 2147483648", "SELECT a FROM small WHERE id = 0"),
        ("SELECT a FROM words WHERE _id = 'a'", "SELECT a FROM words WHERE _id = 'b'"),
        ("SELECT a FROM words WHERE id = 'a'", "SELECT a FROM words WHERE id = 'a''b'"),
        ("SELECT a FROM words WHERE id = 'a'", "SELECT a FROM words WHERE id = 'ä'"),
        ("SELECT a FROM words WHERE id = 'a'", "SELECT a FROM words WHERE id = E'b'"),
        ("SELECT a FROM big WHERE a = 7", "SELECT a FROM big WHERE a = 8"),
        ("SELECT a + 1 FROM big WHERE id = 7", "SELECT a + 1 FROM big WHERE id = 8"),
        ("SELECT 7 FROM big WHERE id = 7", "SELECT 7 FROM big WHERE id = 8"),
        ("SELECT a FROM times WHERE id = 7", "SELECT a FROM times WHERE id = 8"),
        ("SELECT a FROM seven WHERE id = 7", "SELECT a FROM seven WHERE id = 8"),
        ("SELECT a FROM big WHERE id = 7 LIMIT 0", "SELECT a FROM big WHERE id = 8 LIMIT 0"),
    ):
        assert found_after(learned, text) is None, text


def test_what_holds_for_one_view_of_a_session_does_not_for_another() -> None:
    reads = KeysInTexts()
    reads.learn(SEVEN, compiled(SEVEN), VIEW_KEY, STATE)
    assert reads.find("SELECT a FROM big WHERE id = 8", ("crate", "other")) is None
    reads.clear()
    assert reads.find("SELECT a FROM big WHERE id = 8", VIEW_KEY) is None


def test_a_table_with_the_name_of_a_view_is_compiled() -> None:
    view = msgspec.structs.replace(VIEW, name=RelationName("other", "big"))
    reads = KeysInTexts()
    reads.learn(SEVEN, compiled(SEVEN), VIEW_KEY, msgspec.structs.replace(STATE, views={"v": view}))
    assert reads.find("SELECT a FROM big WHERE id = 8", VIEW_KEY) is None


def test_the_number_of_forms_is_bounded() -> None:
    reads = KeysInTexts(entries_max=2)
    for name in ("x", "y", "z"):
        text = f"SELECT a AS {name} FROM big WHERE id = 7"
        reads.learn(text, compiled(text), VIEW_KEY, STATE)
    assert reads.find("SELECT a AS x FROM big WHERE id = 8", VIEW_KEY) is None
    assert reads.find("SELECT a AS z FROM big WHERE id = 8", VIEW_KEY) is not None


def test_no_text_takes_long() -> None:
    reads = KeysInTexts()
    reads.learn(SEVEN, compiled(SEVEN), VIEW_KEY, STATE)
    started = time.process_time()
    for text in (
        "select" + " " * 1_000 + "x",
        "select a" + " from" * 200,
        "select a from t where id = 7" + " " * 900 + "x",
        "select " + "a," * 480 + " from",
        "select a from t where" + " id" * 300,
    ):
        assert reads.find(text, VIEW_KEY) is None
    assert time.process_time() - started < 1, "a loop over all ways to divide a text"


KEYS = st.one_of(
    st.integers(0, 2**64).map(str),
    st.sampled_from(["7", "007", "2147483647", "2147483648", "-7", "7.0", "1e3", "NULL", "true", "0x10", "1_000"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5).map(
        lambda t: "'" + t.replace("'", "''") + "'"
    ),
)
TEXTS = st.tuples(
    st.sampled_from(
        ["a", "id, a", "*", "a AS x", "DISTINCT a", "t.a", "a, 7", "count(*)", "a from words union select a"]
    ),
    st.sampled_from(["big", "doc.small", "words", '"words"', "times", "seven", "big t", "seven, big"]),
    st.sampled_from(["id = ", "id=", "a = ", "b = ", "id  = - ", "id > ", "7 = 7 and id = "]),
    st.sampled_from(
        ["", ";", " LIMIT 1", " LIMIT 0", " LIMIT 7;", " AND a = 7", " ORDER BY 1", " OR id = 7", " OFFSET 1"]
    ),
)


@given(form=TEXTS, learned=KEYS, asked=KEYS)
@settings(max_examples=300, deadline=None)
def test_an_exchanged_key_is_what_compiling_gives(form: tuple[str, str, str, str], learned: str, asked: str) -> None:
    columns, table, condition, rest = form
    reads = KeysInTexts()
    try:
        known = f"SELECT {columns} FROM {table} WHERE {condition}{learned}{rest}"
        reads.learn(known, compiled(known), VIEW_KEY, STATE)
    except CrateError:
        return
    text = f"SELECT {columns} FROM {table} WHERE {condition}{asked}{rest}"
    found = reads.find(text, VIEW_KEY)
    if found is not None:
        assert found == compiled(text)
