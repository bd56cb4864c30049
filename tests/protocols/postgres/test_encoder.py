"""Wire goldens of backend messages."""

from __future__ import annotations

from cratepy.errors import DuplicateKey, ParsingError
from cratepy.model.relations import OutputColumn
from cratepy.model.types import INTEGER, TEXT, DataType, array_of
from cratepy.protocols.postgres import encoder
from cratepy.protocols.postgres.rows import RowEncoder


def test_row_description_golden() -> None:
    columns = (OutputColumn(1, "a", INTEGER), OutputColumn(2, "b", DataType("bit", length=4)))
    assert encoder.row_description(columns, (1, 0)) == (
        b"T\0\0\0\x2e\0\x02"
        b"a\0" + bytes.fromhex("00000000" "0000" "00000017" "0004" "ffffffff" "0001") + b"b\0"
        + bytes.fromhex("00000000" "0000" "00000618" "ffff" "00000004" "0000")
    )  # fmt: skip


def test_error_response_golden() -> None:
    assert encoder.error_response(DuplicateKey("exists")) == b"E\0\0\0\x22SERROR\0VERROR\0C23505\0Mexists\0\0"
    error = ParsingError("line 1:3: no", position=3)
    assert b"\0C42601\0" in encoder.error_response(error)
    assert b"P3\0\0" in encoder.error_response(error, severity="FATAL")


def test_command_complete_and_descriptions_golden() -> None:
    assert encoder.command_complete("INSERT 0 1") == b"C\0\0\0\x0fINSERT 0 1\0"
    assert encoder.parameter_description((23, 1043)) == b"t\0\0\0\x0e\0\x02\0\0\0\x17\0\0\x04\x13"
    assert encoder.parameter_status("a", "b") == b"S\0\0\0\x08a\0b\0"
    assert encoder.backend_key_data(1, -2) == b"K\0\0\0\x0c\0\0\0\x01\xff\xff\xff\xfe"
    assert encoder.negotiate_protocol_version(("_pq_.x",)) == b"v\0\0\0\x13\0\0\0\0\0\0\0\x01_pq_.x\0"


def test_data_rows_golden_in_both_formats() -> None:
    columns = (OutputColumn(1, "a", INTEGER), OutputColumn(2, "b", TEXT), OutputColumn(3, "c", array_of(TEXT)))
    rows = [(7, None, ['q"', None])]
    assert RowEncoder(columns).encode(rows) == (b'D\0\0\0\x1f\0\x03\0\0\0\x017\xff\xff\xff\xff\0\0\0\x0c{"q\\"",NULL}')
    binary = RowEncoder(columns, (1,)).encode(rows)
    assert binary[:15] == b"D" + (len(binary) - 1).to_bytes(4, "big") + b"\0\x03\0\0\0\x04\0\0\0\x07"
