"""String functions. Positions count characters (code points), from 1.

Source: CrateDB's string functions. CrateDB counts UTF-16 units; here a character outside the basic plane is one
character, as in PostgreSQL. NULL in gives NULL out except for concat, concat_ws and format.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from typing import Any, Final

from cratepy import limits
from cratepy.errors import SQLParseError
from cratepy.functions import blake3
from cratepy.functions.arrow_kernels import replaced_parts
from cratepy.functions.casts import text_of
from cratepy.functions.java_format import java_format
from cratepy.functions.patterns import regexp_matches
from cratepy.functions.signatures import Declaration, signatures
from cratepy.model.names import quote_identifier
from cratepy.model.types import DataType

#: CrateDB's limit for the length of lpad and rpad.
_PAD_CHARS_MAX: Final = 50_000
_WORD: Final = re.compile(r"[^\W_]+")
_TRIMMED: Final = " "
_BASE64: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")


def substring(text: str, start: int, length: int | None = None) -> str:
    begin = max(start - 1, 0)
    if length is None:
        return text[begin:]
    if length < 0:
        raise SQLParseError("negative substring length not allowed")
    return text[begin : begin + length]


def _substring_by_pattern(text: str, pattern: str) -> str | None:
    found = regexp_matches(text, pattern)
    return found[0][0] if found else None


def _substring_row(arguments: tuple[DataType, ...], _result: DataType) -> Callable[..., Any]:
    return _substring_by_pattern if arguments[1].kind == "text" and len(arguments) == 2 else substring


def _left(text: str, count: int) -> str:
    return text[:count] if count >= 0 else text[: max(len(text) + count, 0)]


def _right(text: str, count: int) -> str:
    if count >= 0:
        return text[max(len(text) - count, 0) :]
    return text[-count:]


def _pad(text: str, length: int, fill: str, *, left: bool) -> str:
    if length > _PAD_CHARS_MAX:
        raise SQLParseError(f"len argument exceeds predefined limit of {_PAD_CHARS_MAX}")
    if length <= len(text):
        return text[: max(length, 0)]
    if not fill:
        return text
    missing = length - len(text)
    padding = (fill * (missing // len(fill) + 1))[:missing]
    return padding + text if left else text + padding


def _repeat(text: str, count: int) -> str:
    if len(text) * count > limits.TEXT_RESULT_CHARS_MAX:
        raise SQLParseError(f"result of repeat exceeds the limit of {limits.TEXT_RESULT_CHARS_MAX} characters")
    return text * count


def _replace(text: str, old: str, new: str) -> str:
    if not old:
        return text
    if len(new) > len(old) and text.count(old) * len(new) > limits.TEXT_RESULT_CHARS_MAX:
        raise SQLParseError(f"result of replace exceeds the limit of {limits.TEXT_RESULT_CHARS_MAX} characters")
    return text.replace(old, new)


def _translate(text: str, source: str, target: str) -> str:
    mapping: dict[int, str | None] = {}
    for index, character in enumerate(source):
        mapping.setdefault(ord(character), target[index] if index < len(target) else None)
    return text.translate(mapping)


def _trim(text: str, characters: str = _TRIMMED, mode: str = "BOTH") -> str:
    mode = mode.upper()
    if mode == "LEADING":
        return text.lstrip(characters) if characters else text
    if mode == "TRAILING":
        return text.rstrip(characters) if characters else text
    return text.strip(characters) if characters else text


def _initcap(text: str) -> str:
    return _WORD.sub(lambda word: _upper_one(word.group()[0]) + word.group()[1:].lower(), text)


def _upper_one(character: str) -> str:
    """One character for one: a ligature stays as it is."""
    upper = character.upper()
    return upper if len(upper) == 1 else character


def _split_part(text: str, delimiter: str, index: int) -> str:
    if index < 1:
        raise SQLParseError("index in split_part must be greater than zero")
    parts = text.split(delimiter) if delimiter else [text]
    return parts[index - 1] if index <= len(parts) else ""


def _string_to_array(text: str | None, delimiter: str | None, null: str | None = None) -> list[str | None] | None:
    if text is None:
        return None
    if not text:
        return []
    parts = list(text) if delimiter is None else text.split(delimiter) if delimiter else [text]
    return [None if null is not None and part == null else part for part in parts]


def _chr(code: int) -> str:
    if not 0 < code < 0x110000 or 0xD800 <= code < 0xE000:
        raise SQLParseError(f"requested character too large for encoding: {code}")
    return chr(code)


def _encode(text: str, form: str) -> str:
    data = _bytes_of(text)
    match form:
        case "hex":
            return data.hex()
        case "base64":
            return base64.b64encode(data).decode()
        case "escape":
            return "".join(_escaped(byte) for byte in data)
    raise SQLParseError(f"Encoding format '{form}' is not supported")


def _bytes_of(text: str) -> bytes:
    """``\\x`` and hexadecimal digits, or the text's own bytes."""
    if not text.startswith("\\x"):
        return text.encode("utf-8")
    return _unhex(text[2:])


def _unhex(digits: str) -> bytes:
    if len(digits) % 2:
        raise SQLParseError("Odd number of characters")
    for index, digit in enumerate(digits):
        if digit not in "0123456789abcdefABCDEF":
            raise SQLParseError(f"Illegal hexadecimal character {digit} at index {index}")
    return bytes.fromhex(digits)


def _escaped(byte: int) -> str:
    if byte == 0x5C:
        return "\\\\"
    return chr(byte) if 0 < byte < 128 else f"\\{byte:03o}"


def _decode(text: str, form: str) -> str:
    match form:
        case "hex":
            return "\\x" + _unhex(text).hex()
        case "base64":
            try:
                return "\\x" + base64.b64decode(text + "=" * (-len(text) % 4), validate=True).hex()
            except (binascii.Error, ValueError) as error:
                raise SQLParseError(f"Illegal base64 character{_first_stranger(text)}") from error
        case "escape":
            data = re.sub(rb"\\([0-7]{3})|\\\\", _unescaped, text.encode("utf-8"))
            return "\\x" + data.hex()
    raise SQLParseError(f"Encoding format '{form}' is not supported")


def _first_stranger(text: str) -> str:
    """The first byte that is no digit of base64, as Java prints it: signed, in hexadecimal digits."""
    for byte in text.encode():
        if byte not in _BASE64:
            return f" {byte if byte < 0x80 else byte - 0x100:x}"
    return ""


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes([int(match.group(1), 8) & 0xFF]) if match.group(1) else b"\\"


_IDENTIFIER: Final = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([A-Za-z_][A-Za-z0-9_$]*))\s*')


def _parse_ident(text: str, is_strict: bool = True) -> list[str]:
    parts: list[str] = []
    position = 0
    while True:
        match = _IDENTIFIER.match(text, position)
        if match is None:
            raise SQLParseError(f'String is not a valid identifier: "{text}"')
        quoted, plain = match.groups()
        parts.append(quoted.replace('""', '"') if quoted is not None else plain.lower())
        position = match.end()
        if position < len(text) and text[position] == ".":
            position += 1
            continue
        if position < len(text) and is_strict:
            raise SQLParseError(f'String is not a valid identifier: "{text}"')
        return parts


def _concat_row(arguments: tuple[DataType, ...], result: DataType) -> Callable[..., Any]:
    if result.kind == "array":
        return lambda *arrays: [item for array in arrays for item in array or ()]
    if result.kind == "object":
        return lambda left, right: {**(left or {}), **(right or {})}
    return lambda *texts: "".join(text for text in texts if text is not None)


def _concat_ws(separator: str | None, *texts: str | None) -> str | None:
    return None if separator is None else separator.join(text for text in texts if text is not None)


def _format_row(arguments: tuple[DataType, ...], _result: DataType) -> Callable[..., Any]:
    types = arguments[1:]
    return lambda template, *values: None if template is None else java_format(template, values, types)


def _array_to_string_row(arguments: tuple[DataType, ...], _result: DataType) -> Callable[..., Any]:
    element = arguments[0].element
    assert element is not None

    def array_to_string(array: list[Any] | None, separator: str | None, null: str | None = None) -> str | None:
        if array is None or separator is None:
            return None
        texts = [null if item is None else text_of(item, element) for item in array]
        return separator.join(text for text in texts if text is not None)

    return array_to_string


def _text(
    name: str,
    types: str | tuple[str, ...],
    row: Callable[..., Any],
    *,
    sql: str | None = None,
    aliases: tuple[str, ...] = (),
    doc: str = "",
) -> Declaration:
    texts = (types,) if isinstance(types, str) else types
    return Declaration(name=name, aliases=aliases, signatures=signatures(*texts), row=row, sql=sql, doc=doc)


def _as_view(sql: str) -> str:
    """The engine's string functions give either kind of text; a column has one."""
    return f"arrow_cast({sql}, 'Utf8View')"


def _substring_sql(arguments: tuple[DataType, ...], _result: DataType) -> str | None:
    if arguments[1].kind == "text":
        return None
    length = ", {2}" if len(arguments) == 3 else ""
    return _as_view(f"substr({{0}}, CASE WHEN {{1}} < 1 THEN 1 ELSE {{1}} END{length})")


DECLARATIONS: Final[tuple[Declaration, ...]] = (
    _text("char_length", "text -> integer", len, sql="CAST(character_length({0}) AS INT)", aliases=("length",)),
    _text(
        "octet_length", "text -> integer", lambda text: len(text.encode("utf-8")), sql="CAST(octet_length({0}) AS INT)"
    ),
    _text("bit_length", "text -> integer", lambda text: 8 * len(text.encode("utf-8"))),
    _text("lower", "text -> text", str.lower, sql=_as_view("lower({0})")),
    _text("upper", "text -> text", str.upper, sql=_as_view("upper({0})")),
    _text("initcap", "text -> text", _initcap),
    _text("reverse", "text -> text", lambda text: text[::-1], sql=_as_view("reverse({0})")),
    _text("ascii", "text -> integer", lambda text: ord(text[0]) if text else 0, sql="CAST(ascii({0}) AS INT)"),
    _text("chr", "integer -> text", _chr),
    Declaration(
        name="substring",
        aliases=("substr",),
        signatures=signatures("text,integer -> text", "text,integer,integer -> text", "text,text -> text"),
        row_of=_substring_row,
        sql=_substring_sql,
        doc="characters from a position, or the part that matches a pattern",
    ),
    _text("left", "text,integer -> text", _left, sql=_as_view("left({0}, {1})")),
    _text("right", "text,integer -> text", _right, sql=_as_view("right({0}, {1})")),
    _text(
        "lpad",
        ("text,integer -> text", "text,integer,text -> text"),
        lambda t, n, fill=" ": _pad(t, n, fill, left=True),
    ),
    _text(
        "rpad",
        ("text,integer -> text", "text,integer,text -> text"),
        lambda t, n, fill=" ": _pad(t, n, fill, left=False),
    ),
    _text("repeat", "text,integer -> text", _repeat),
    Declaration(
        name="replace",
        signatures=signatures("text,text,text -> text"),
        row=_replace,
        # The engine's own knows no bound of what it makes.
        arrow=lambda _arguments, _result: replaced_parts,
    ),
    _text("translate", "text,text,text -> text", _translate, sql=_as_view("translate({0}, {1}, {2})")),
    _text("trim", ("text -> text", "text,text -> text", "text,text,text -> text"), _trim),
    _text("btrim", ("text -> text", "text,text -> text"), _trim, sql=_as_view("btrim({args})")),
    _text(
        "ltrim",
        ("text -> text", "text,text -> text"),
        lambda text, c=_TRIMMED: _trim(text, c, "LEADING"),
        sql=_as_view("ltrim({args})"),
    ),
    _text(
        "rtrim",
        ("text -> text", "text,text -> text"),
        lambda text, c=_TRIMMED: _trim(text, c, "TRAILING"),
        sql=_as_view("rtrim({args})"),
    ),
    _text(
        "strpos", "text,text -> integer", lambda text, part: text.find(part) + 1, sql="CAST(strpos({0}, {1}) AS INT)"
    ),
    _text(
        "position", "text,text -> integer", lambda part, text: text.find(part) + 1, sql="CAST(strpos({1}, {0}) AS INT)"
    ),
    _text("starts_with", "text,text -> boolean", str.startswith, sql="starts_with({0}, {1})"),
    _text("split_part", "text,text,integer -> text", _split_part),
    Declaration(
        name="string_to_array",
        signatures=signatures("text,text -> text[]", "text,text,text -> text[]"),
        row=_string_to_array,
        takes_null=True,
    ),
    _text("quote_ident", "text -> text", quote_identifier),
    _text("parse_ident", ("text -> text[]", "text,boolean -> text[]"), _parse_ident),
    _text("md5", "text -> text", lambda text: hashlib.md5(text.encode()).hexdigest(), sql=_as_view("md5({0})")),
    _text("sha1", "text -> text", lambda text: hashlib.sha1(text.encode()).hexdigest()),
    Declaration(
        name="blake3",
        signatures=signatures("text -> text"),
        row=lambda text: blake3.digest(text.encode()),
        sql=_as_view("encode(digest({0}, 'blake3'), 'hex')"),
        is_costly=True,
    ),
    _text("encode", "text,text -> text", _encode),
    _text("decode", "text,text -> text", _decode),
    Declaration(
        name="concat",
        signatures=signatures("text,text -> text", "text... -> text", "E[],E[] -> E[]", "object,object -> object"),
        row_of=_concat_row,
        sql=lambda _arguments, result: _as_view("concat({args})") if result.kind == "text" else None,
        takes_null=True,
        doc="arguments one after the other; NULL counts as empty",
    ),
    Declaration(name="concat_ws", signatures=signatures("text... -> text"), row=_concat_ws, takes_null=True),
    Declaration(name="format", signatures=signatures("text,V... -> text"), row_of=_format_row, takes_null=True),
    Declaration(
        name="array_to_string",
        signatures=signatures("E[],text -> text", "E[],text,text -> text"),
        row_of=_array_to_string_row,
        takes_null=True,
        doc="the elements' texts joined by a separator",
    ),
)
