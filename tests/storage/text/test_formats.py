"""The bytes of text.meta, and those of tantivy's that we write or check: internal formats, so they are kept here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tantivy
from pyroaring import BitMap

from cratepy.errors import ShardFailed
from cratepy.model.search import AnalyzerDefinition
from cratepy.storage.text.formats import (
    EXTENSIONS,
    FieldMeta,
    TextMeta,
    ViewSegment,
    decode_meta,
    deletes_file,
    encode_meta,
    has_right_footer,
    view_meta,
)

_META = TextMeta(
    rows=3,
    tie_base=7,
    fields=(FieldMeta("c2", AnalyzerDefinition(name="standard", token_filters=(("lowercase", ()),))),),
    schema=b'[{"name":"tie","type":"tie_breaker"}]',
    settings=b'{"docstore_compression":"lz4"}',
)


def test_the_bytes_of_a_meta_file() -> None:
    data = encode_meta(_META)
    assert data.startswith(b"CRPYTEXT\x01\x00\x00\x00\x00\x00\x00\x00\x95\x03\x07")
    assert decode_meta(data, "x") == _META


@pytest.mark.parametrize("cut", [0, 7, 15, 16, 20, -1])
def test_a_cut_meta_file_is_damaged(cut: int) -> None:
    with pytest.raises(ShardFailed, match="damaged"):
        decode_meta(encode_meta(_META)[:cut], "x")


def test_a_newer_format_is_refused() -> None:
    data = bytearray(encode_meta(_META))
    data[8] = 9
    with pytest.raises(ShardFailed, match="this version reads formats up to 1"):
        decode_meta(bytes(data), "x")


def test_the_bytes_of_a_deletes_file() -> None:
    data = deletes_file(70, BitMap([0, 65]))
    assert data[:4] == (70).to_bytes(4, "little")
    assert data[4:20] == bytes([0xFE, *[0xFF] * 7, 0b00111101, *[0] * 7])
    footer = data[20:-8]
    assert json.loads(footer)["version"] == {"major": 0, "minor": 27, "patch": 0, "index_format_version": 7}
    assert data[-8:] == len(footer).to_bytes(4, "little") + (1337).to_bytes(4, "little")
    assert has_right_footer(memoryview(data))


def test_a_view_lists_its_segments_as_tantivy_does() -> None:
    content = json.loads(view_meta([ViewSegment(1, 3, 0, 0), ViewSegment(0xABC, 70, 2, 5)], _META, opstamp=6))
    assert content == {
        "index_settings": {"docstore_compression": "lz4"},
        "segments": [
            {"segment_id": "00000000-0000-0000-0000-000000000001", "max_doc": 3, "deletes": None},
            {
                "segment_id": "00000000-0000-0000-0000-000000000abc",
                "max_doc": 70,
                "deletes": {"num_deleted_docs": 2, "opstamp": 5},
            },
        ],
        "schema": [{"name": "tie", "type": "tie_breaker"}],
        "opstamp": 6,
    }


def test_every_file_of_the_index_library_has_a_footer_that_finds_a_flipped_bit(tmp_path: Path) -> None:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("c2", stored=False, tokenizer_name="raw")
    index = tantivy.Index(builder.build(), str(tmp_path))
    writer = index.writer(15_000_000, num_threads=1)
    document = tantivy.Document()
    document.add_text("c2", "x")
    writer.add_document(document)
    writer.commit()
    del writer
    for extension in EXTENSIONS:
        (path,) = tmp_path.glob(f"*.{extension}")
        data = bytearray(path.read_bytes())
        assert has_right_footer(memoryview(data))
        assert b'"index_format_version":7' in data
        data[0] ^= 1
        assert not has_right_footer(memoryview(data))
        assert not has_right_footer(memoryview(data[:5]))
