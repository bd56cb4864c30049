"""Texts that an analyzer cannot be asked to split: no refresh, merge or opening fails for them, and no row is lost."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from cratepy import limits
from cratepy.errors import BadRequest
from cratepy.model.schema import TableDefinition
from cratepy.model.search import AnalyzerDefinition, IndexDefinition
from cratepy.storage.text.fields import costly_fields, refused_rows
from tests.storage.shards import insert, open_shard, scanned
from tests.storage.text.texts import found, fulltext, match

BAD = "a" * 60 + "!"


def costly(*, is_named: bool = False) -> TableDefinition:
    bad = AnalyzerDefinition(name="bad", tokenizer="pattern", tokenizer_settings=(("pattern", "(a|aa)+$|,"),))
    if is_named:
        index = IndexDefinition(oid=9, name="i", columns=("t",), analyzer="bad")
        return fulltext(indexes=(index,), analyzers=(bad,))
    return fulltext("bad", analyzers=(bad,))


def test_such_rows_are_named_before_they_are_written() -> None:
    columns = {1: pa.array([1, 2, 3]), 2: pa.array(["x,y", BAD, None])}
    for definition in (costly(), costly(is_named=True)):
        assert len(costly_fields(definition)) == 1
        refused = list(refused_rows(definition, columns, 3))
        assert [row for row, _ in refused] == [1]
        assert refused[0][1].message.startswith(
            "A text cannot be indexed by analyzer 'bad': the pattern '(a|aa)+$|,' of an analyzer takes more than"
        )
    assert costly_fields(fulltext()) == ()
    assert list(refused_rows(costly(), {1: columns[1]}, 3)) == []


@pytest.mark.parametrize("is_named", [False, True])
def test_one_that_was_written_all_the_same_is_a_row_without_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_named: bool
) -> None:
    monkeypatch.setattr(limits, "REGEX_S", 0.01)
    definition = costly(is_named=is_named)
    source = "c9" if is_named else "c2"
    shard = open_shard(tmp_path / "s", definition=definition)
    shard.write(insert({"a": (1, "x,y"), "b": (2, BAD), "c": (3, "z,x")}))
    shard.refresh()
    assert found(shard, match("x", source=source)) == ["a", "c"]
    assert scanned(shard) == [("a", 1, "x,y"), ("b", 2, BAD), ("c", 3, "z,x")]
    shard.write(insert({"d": (4, "x")}))
    shard.optimize(max_num_segments=1)
    assert found(shard, match("x", source=source)) == ["a", "c", "d"]
    shard.close()
    shard = open_shard(tmp_path / "s", definition=definition, create=False)
    assert shard.get(["b"], ["c2"]) == [(BAD,)]
    assert found(shard, match("x", source=source)) == ["a", "c", "d"]
    with pytest.raises(BadRequest, match="takes more than"):
        found(shard, match(BAD, source=source))
    assert shard.failure is None


def test_the_words_of_several_texts_of_a_row_stop_at_the_costly_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REGEX_S", 0.01)
    definition = costly(is_named=True)
    both = msgspec.structs.replace(definition.indexes[0], columns=("t", "t"))
    shard = open_shard(tmp_path / "s", definition=msgspec.structs.replace(definition, indexes=(both,)))
    shard.write(insert({"a": (1, "x"), "b": (2, BAD)}))
    shard.refresh()
    assert found(shard, match("x", source="c9")) == ["a"]
