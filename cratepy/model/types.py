"""SQL data types: their names, the ids and OIDs clients see, and their order of precedence.

One frozen class for every type; a type with parameters (length, precision, element, fields) is another value of it.
Source: CrateDB's data types (HTTP ids, precedence of ``DataTypes``), PostgreSQL's OIDs.

**SQL values.** Outside of Arrow a value of a type is always this Python object (literals, parameters, single rows,
plans on the wire):

====================  =====================================================================
boolean               ``bool``
byte … bigint         ``int``
real, double          ``float`` (NaN and ±Infinity allowed)
numeric               ``str``, canonical decimal text such as ``"-12.50"`` (``decimal.Decimal`` would not survive
                      msgpack; :func:`cratepy.model.values.decimal_of` converts)
text and its kin      ``str`` (varchar, char, ip, uuid, bit, json as text)
timestamp(tz), date   ``int``: milliseconds since 1970-01-01T00:00:00Z (a date is midnight)
interval              ``list`` ``[months, days, milliseconds]``
object                ``dict``
array                 ``list``
NULL                  ``None``
====================  =====================================================================
"""

from __future__ import annotations

from typing import Final

import msgspec


class Field(msgspec.Struct, frozen=True, gc=False):
    """A named part of an object or row type."""

    name: str
    type: DataType


class DataType(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A SQL type. Compare with ``==``; ``kind`` is the type without its parameters."""

    kind: str
    #: varchar(n), char(n), bit(n): characters or bits; None is unbounded.
    length: int | None = None
    #: numeric(p, s); None is unconstrained.
    precision: int | None = None
    scale: int | None = None
    #: array: the type of its elements.
    element: DataType | None = None
    #: object and row: the declared parts, in order.
    fields: tuple[Field, ...] = ()
    #: object: ``dynamic``, ``strict``, ``ignored`` or, of ANY_JSON, ``any``; integer: ``oid`` or empty; empty for all others.
    policy: str = ""

    @property
    def name(self) -> str:
        """The name as CrateDB prints it: ``integer``, ``text``, ``numeric(10,2)``, ``integer_array``."""
        if self.kind == "array":
            assert self.element is not None
            return f"{self.element.name}_array"
        if self.kind == "text" and self.length is not None:
            return f"varchar({self.length})"
        if self.kind in ("character", "bit") and self.length is not None:
            return f"{self.kind}({self.length})"
        if self.policy == "any":
            return "undefined"
        if self.kind == "numeric" and self.precision is not None:
            return f"numeric({self.precision},{self.scale})" if self.scale is not None else f"numeric({self.precision})"
        return self.kind

    def field(self, name: str) -> DataType | None:
        """The type of an object's declared part, or None."""
        for field in self.fields:
            if field.name == name:
                return field.type
        return None

    @property
    def is_numeric(self) -> bool:
        return self.kind in NUMERIC_KINDS

    @property
    def is_integer(self) -> bool:
        return self.kind in INTEGER_KINDS

    @property
    def is_timestamp(self) -> bool:
        return self.kind in TIMESTAMP_KINDS


class TypeFacts(msgspec.Struct, frozen=True):
    """What clients see of a kind: HTTP type id; PostgreSQL's OID, OID of its array, name and length in bytes."""

    http_id: int
    oid: int
    array_oid: int
    pg_name: str
    pg_length: int
    #: The lower type of an operation is cast to the higher one (CrateDB: precedence of DataTypes).
    precedence: int


TYPE_FACTS: Final[dict[str, TypeFacts]] = {
    "undefined": TypeFacts(0, 705, 705, "unknown", -2, 0),
    "character": TypeFacts(27, 1042, 1014, "bpchar", -1, 1),
    "text": TypeFacts(4, 1043, 1015, "varchar", -1, 2),
    "boolean": TypeFacts(3, 16, 1000, "bool", 1, 4),
    "byte": TypeFacts(2, 21, 1005, "int2", 2, 5),
    "smallint": TypeFacts(8, 21, 1005, "int2", 2, 6),
    "time with time zone": TypeFacts(20, 1266, 1270, "timetz", 12, 7),
    "integer": TypeFacts(9, 23, 1007, "int4", 4, 8),
    "regtype": TypeFacts(30, 2206, 2211, "regtype", 4, 9),
    "regproc": TypeFacts(19, 24, 1008, "regproc", 4, 10),
    "regclass": TypeFacts(23, 2205, 2210, "regclass", 4, 11),
    "interval": TypeFacts(17, 1186, 1187, "interval", 16, 12),
    "date": TypeFacts(24, 1082, 1182, "date", 4, 13),
    "timestamp with time zone": TypeFacts(11, 1184, 1185, "timestamptz", 8, 14),
    "timestamp without time zone": TypeFacts(15, 1114, 1115, "timestamp", 8, 15),
    "uuid": TypeFacts(29, 2950, 2951, "uuid", 16, 16),
    "bigint": TypeFacts(10, 20, 1016, "int8", 8, 17),
    "ip": TypeFacts(5, 1043, 1015, "varchar", -1, 18),
    "real": TypeFacts(7, 700, 1021, "float4", 4, 19),
    "double precision": TypeFacts(6, 701, 1022, "float8", 8, 20),
    "numeric": TypeFacts(22, 1700, 1231, "numeric", -1, 21),
    "array": TypeFacts(100, 114, 199, "json", -1, 22),
    "record": TypeFacts(18, 2249, 2287, "record", -1, 23),
    "geo_point": TypeFacts(13, 600, 1017, "point", 16, 24),
    "object": TypeFacts(12, 114, 199, "json", -1, 25),
    "json": TypeFacts(26, 114, 199, "json", -1, 26),
    "geo_shape": TypeFacts(14, 114, 199, "json", -1, 27),
    "float_vector": TypeFacts(28, 1021, 1021, "_float4", -1, 28),
    "bit": TypeFacts(25, 1560, 1561, "bit", -1, 29),
    "oidvector": TypeFacts(21, 30, 1013, "oidvector", -1, 30),
}

INTEGER_KINDS: Final = frozenset({"byte", "smallint", "integer", "bigint"})
NUMERIC_KINDS: Final = INTEGER_KINDS | {"real", "double precision", "numeric"}
TIMESTAMP_KINDS: Final = frozenset({"timestamp with time zone", "timestamp without time zone"})

UNDEFINED: Final = DataType("undefined")
#: A part of an object that nothing declares and that no place in the statement gives a type: computed as an object is,
#: as JSON text, but it may be any JSON value, and clients are told that its type is undefined.
ANY_JSON: Final = DataType("object", policy="any")
BOOLEAN: Final = DataType("boolean")
BYTE: Final = DataType("byte")
SMALLINT: Final = DataType("smallint")
INTEGER: Final = DataType("integer")
BIGINT: Final = DataType("bigint")
#: An integer in all but the number PostgreSQL's clients see: asyncpg reads the catalog with built-in codecs only, and
#: arrays of oids are one of the two arrays it has a codec for (the other is text).
OID: Final = DataType("integer", policy="oid")
REAL: Final = DataType("real")
DOUBLE: Final = DataType("double precision")
NUMERIC: Final = DataType("numeric")
TEXT: Final = DataType("text")
CHARACTER: Final = DataType("character", length=1)
TIMESTAMP: Final = DataType("timestamp without time zone")
TIMESTAMPTZ: Final = DataType("timestamp with time zone")
DATE: Final = DataType("date")
INTERVAL: Final = DataType("interval")
TIMETZ: Final = DataType("time with time zone")
IP: Final = DataType("ip")
UUID: Final = DataType("uuid")
JSON: Final = DataType("json")
REGCLASS: Final = DataType("regclass")
REGPROC: Final = DataType("regproc")
REGTYPE: Final = DataType("regtype")
OIDVECTOR: Final = DataType("oidvector")
GEO_POINT: Final = DataType("geo_point")
GEO_SHAPE: Final = DataType("geo_shape")
OBJECT: Final = DataType("object", policy="dynamic")

#: Every spelling accepted in SQL → type. Parameters (``varchar(3)``, ``numeric(5,2)``) are added by the analyzer.
TYPE_NAMES: Final[dict[str, DataType]] = {
    "boolean": BOOLEAN, "bool": BOOLEAN,
    "byte": BYTE, "char": CHARACTER, "\"char\"": CHARACTER, "character": CHARACTER, "bpchar": CHARACTER,
    "smallint": SMALLINT, "short": SMALLINT, "int2": SMALLINT,
    "integer": INTEGER, "int": INTEGER, "int4": INTEGER, "oid": OID,
    "bigint": BIGINT, "long": BIGINT, "int8": BIGINT,
    "real": REAL, "float": REAL, "float4": REAL,
    "double precision": DOUBLE, "double": DOUBLE, "float8": DOUBLE,
    "numeric": NUMERIC, "decimal": NUMERIC,
    "text": TEXT, "string": TEXT, "varchar": TEXT, "character varying": TEXT, "name": TEXT,
    "timestamp": TIMESTAMP, "timestamp without time zone": TIMESTAMP,
    "timestamptz": TIMESTAMPTZ, "timestamp with time zone": TIMESTAMPTZ,
    "date": DATE, "interval": INTERVAL,
    "timetz": TIMETZ, "time with time zone": TIMETZ,
    "ip": IP, "uuid": UUID, "json": JSON,
    "object": OBJECT, "geo_point": GEO_POINT, "geo_shape": GEO_SHAPE,
    "regclass": REGCLASS, "regproc": REGPROC, "regprocedure": REGPROC, "regoper": REGPROC, "regoperator": REGPROC, "regtype": REGTYPE, "oidvector": OIDVECTOR,
    "undefined": UNDEFINED, "unknown": UNDEFINED,
    "bit": DataType("bit", length=1), "float_vector": DataType("float_vector"),
}  # fmt: skip


def array_of(element: DataType) -> DataType:
    return DataType("array", element=element)


def is_open(data_type: DataType) -> bool:
    """Whether no value has told yet what it, or what its elements are (a column that only ever was ``[]``)."""
    while data_type.element is not None:
        data_type = data_type.element
    return data_type.kind == "undefined"


def numeric(precision: int, scale: int = 0) -> DataType:
    return DataType("numeric", precision=precision, scale=scale)


def varchar(length: int) -> DataType:
    return DataType("text", length=length)


def object_of(fields: tuple[Field, ...], policy: str = "dynamic") -> DataType:
    return DataType("object", fields=fields, policy=policy)


def facts(data_type: DataType) -> TypeFacts:
    return TYPE_FACTS["undefined" if data_type == ANY_JSON else data_type.kind]


def http_type_id(data_type: DataType) -> int | list[object]:
    """The id in ``col_types``: a number, or ``[100, inner]`` for an array."""
    if data_type.kind == "array":
        assert data_type.element is not None
        return [100, http_type_id(data_type.element)]
    return facts(data_type).http_id


_OID_OID: Final = 26
_OID_ARRAY_OID: Final = 1028
_TEXT_ARRAY_OID: Final = 1009


def type_oid(data_type: DataType) -> int:
    """PostgreSQL's OID. Nested arrays and arrays of objects are json, as in CrateDB.

    An array of text is ``_text`` (CrateDB: ``_varchar``): every client has a codec for it, asyncpg for no other.
    """
    if data_type.kind == "array":
        assert data_type.element is not None
        element = data_type.element
        if element.kind in ("array", "object", "geo_shape"):
            return 199 if element.kind == "object" else 114
        if element == OID:
            return _OID_ARRAY_OID
        if element == TEXT:
            return _TEXT_ARRAY_OID
        return TYPE_FACTS[element.kind].array_oid
    if data_type == OID:
        return _OID_OID
    return facts(data_type).oid


def common_type(left: DataType, right: DataType) -> DataType:
    """The type both operands of an operation are cast to: the one of higher precedence.

    Whether that cast is allowed is the analyzer's question. Arrays combine element-wise; objects keep the left type's
    parts and add the right's.
    """
    if left == right or right.kind == "undefined" or right == ANY_JSON:
        return left if left.kind != "undefined" else right
    if left.kind == "undefined" or left == ANY_JSON:
        return right
    if left.kind == "array" and right.kind == "array":
        assert left.element is not None
        assert right.element is not None
        return array_of(common_type(left.element, right.element))
    if left.kind == right.kind:
        if left.kind == "numeric":
            return left if _numeric_width(left) >= _numeric_width(right) else right
        if left.kind == "object":
            known = {field.name for field in left.fields}
            return object_of(left.fields + tuple(f for f in right.fields if f.name not in known), left.policy)
        if left.length is None or right.length is None:
            return DataType(left.kind)
        return left if left.length >= right.length else right
    return left if TYPE_FACTS[left.kind].precedence > TYPE_FACTS[right.kind].precedence else right


def _numeric_width(data_type: DataType) -> int:
    return 1_000_000 if data_type.precision is None else data_type.precision
