"""Aggregate functions: typing, and how the engine computes each.

``sql`` is a template over the rendered arguments; ``{args}`` are all of them and may be followed by the engine's
``ORDER BY`` and ``FILTER`` where ``{order}`` and ``{filter}`` stand. Aggregates without a template are computed over the
values of a group (``execution.engine.aggregation``, :mod:`cratepy.functions.array_collectors`).

Source: CrateDB's aggregations. ``stddev`` is the sample's; sums of integers are exact and overflow as bigint;
``count(DISTINCT …)`` and all others take DISTINCT. Beyond CrateDB: bool_and, bool_or, every, corr, covar, bit_and, bit_or, median.
"""

from __future__ import annotations

from typing import Final

from cratepy.functions.signatures import Declaration, TemplateChooser, signatures
from cratepy.model.types import DataType

_INTEGERS: Final = ("byte", "smallint", "integer", "bigint")
_PRIMITIVES: Final = (
    "byte", "boolean", "char", "text", "ip", "double", "real", "smallint", "integer", "interval", "bigint",
    "timestamptz", "timestamp", "date", "numeric", "uuid",
)  # fmt: skip
_MEASURED: Final = ("double", "real", "byte", "smallint", "integer", "bigint", "timestamptz")
#: What the engine's own min and max order as SQL does.
NATIVE_ORDER: Final = frozenset(
    {"byte", "smallint", "integer", "bigint", "text", "ip", "uuid", "numeric", "date", "boolean"}
    | {"timestamp with time zone", "timestamp without time zone", "double precision", "real"}
)


def _sum_sql(arguments: tuple[DataType, ...], result: DataType) -> str | None:
    kind = arguments[0].kind
    if kind in ("byte", "smallint", "integer"):
        # 2^31 rows of 32-bit numbers fit 64 bits; no node holds more rows of one group.
        return "sum({distinct}CAST({0} AS BIGINT){order}){filter}"
    if kind == "bigint":
        return SUM_OF_HALVES
    if kind == "double precision":
        return "sum({distinct}{0}{order}){filter}"
    if kind == "real":
        return "arrow_cast(sum({distinct}CAST({0} AS DOUBLE){order}){filter}, 'Float32')"
    if kind == "numeric":
        return f"CAST(sum({{distinct}}{{0}}{{order}}){{filter}} AS {_decimal(result)})"
    return None


#: 64-bit numbers in halves whose sums fit 64 bits (up to 2^31 rows), put together as decimals: exact, and four times
#: faster than summing decimals.
SUM_OF_HALVES: Final = (
    "(CAST(sum({0} >> 32){filter} AS DECIMAL(20,0)) * CAST(4294967296 AS DECIMAL(10,0))"
    " + CAST(sum({0} & 4294967295){filter} AS DECIMAL(20,0)))"
)


#: The same of DISTINCT values, which may have a half in common.
SUM_OF_DISTINCT: Final = "sum(DISTINCT CAST({0} AS DECIMAL(38,0)){order}){filter}"


def _exact_sum_sql(arguments: tuple[DataType, ...], _result: DataType) -> str | None:
    return SUM_OF_HALVES if arguments[0].is_integer else "sum(CAST({0} AS DECIMAL(38,0))){filter}"


def _decimal(data_type: DataType) -> str:
    if data_type.precision is None:
        return "DECIMAL(38,18)"
    return f"DECIMAL({data_type.precision},{data_type.scale or 0})"


def _average_sql(arguments: tuple[DataType, ...], _result: DataType) -> str | None:
    kind = arguments[0].kind
    if kind in ("byte", "smallint", "integer", "bigint", "real", "double precision"):
        return "avg({distinct}CAST({0} AS DOUBLE){order}){filter}"
    if kind == "timestamp with time zone":
        return "avg({distinct}CAST(CAST({0} AS BIGINT) AS DOUBLE){order}){filter}"
    return None


def _extreme_sql(name: str) -> TemplateChooser:
    def choose(arguments: tuple[DataType, ...], _result: DataType) -> str | None:
        return f"{name}({{0}}{{order}}){{filter}}" if arguments[0].kind in NATIVE_ORDER else None

    return choose


def _spread_sql(name: str) -> TemplateChooser:
    def choose(arguments: tuple[DataType, ...], _result: DataType) -> str | None:
        kind = arguments[0].kind
        if kind == "numeric" or kind.startswith("timestamp"):
            return None
        return f"{name}({{distinct}}CAST({{0}} AS DOUBLE){{order}}){{filter}}"

    return choose


def _aggregate(
    name: str, *texts: str, sql: str | TemplateChooser | None = None, aliases: tuple[str, ...] = ()
) -> Declaration:
    return Declaration(name=name, aliases=aliases, signatures=signatures(*texts), sql=sql, takes_null=True)


def _geometric_sql(arguments: tuple[DataType, ...], _result: DataType) -> str:
    return f"exp(avg({{distinct}}{_logarithm(arguments[0])}){{filter}})"


def _logarithms_sql(arguments: tuple[DataType, ...], _result: DataType) -> str:
    return f"sum({_logarithm(arguments[0])}){{filter}}"


def _logarithm(argument: DataType) -> str:
    """Of 0 it is minus infinity, of less NaN; adding 0 makes 0 of -0."""
    number = "CAST({0} AS BIGINT)" if argument.is_timestamp else "{0}"
    return f"ln(CAST({number} AS DOUBLE) + 0.0)"


def _any_value_sql(arguments: tuple[DataType, ...], _result: DataType) -> str | None:
    return "min({0}){filter}" if arguments[0].kind in NATIVE_ORDER else None


def _count_sql(arguments: tuple[DataType, ...], _result: DataType) -> str | None:
    if not arguments:
        return "count(*){filter}"
    return "count({distinct}{0}){filter}"


_PERCENTILE: Final = tuple(
    text
    for kind in ("double", "real", "byte", "smallint", "integer", "bigint", "interval")
    for result in ("interval" if kind == "interval" else "double",)
    for text in (
        f"{kind},double -> {result}",
        f"{kind},double[] -> {result}[]",
        f"{kind},double,double -> {result}",
        f"{kind},double[],double -> {result}[]",
    )
)
#: A character is ordered as text is, and so is NULL, whose order is never asked for.
_BY_ORDER: Final = tuple(f"A,{kind} -> A" for kind in _PRIMITIVES if kind != "char")
_SUMS: Final = (
    "interval -> interval",
    "real -> real",
    "double -> double",
    *(f"{n} -> bigint" for n in _INTEGERS),
    "numeric -> numeric",
)
_SPREAD: Final = (*(f"{n} -> double" for n in _MEASURED), "numeric -> numeric")

DECLARATIONS: Final[tuple[Declaration, ...]] = (
    _aggregate("count", "V -> bigint", "-> bigint", sql=_count_sql),
    _aggregate("sum", *_SUMS, sql=_sum_sql),
    _aggregate(
        "avg",
        *(f"{n} -> double" for n in _MEASURED),
        "numeric -> numeric",
        "interval -> interval",
        sql=_average_sql,
        aliases=("mean",),
    ),
    _aggregate("min", *(f"{n} -> {n}" for n in _PRIMITIVES), sql=_extreme_sql("min")),
    _aggregate("max", *(f"{n} -> {n}" for n in _PRIMITIVES), sql=_extreme_sql("max")),
    _aggregate("any_value", "T -> T", sql=_any_value_sql, aliases=("arbitrary",)),
    _aggregate("array_agg", "E -> E[]"),
    _aggregate("collect_set", *(f"{n} -> {n}[]" for n in _PRIMITIVES)),
    _aggregate("string_agg", "text,text -> text"),
    _aggregate("stddev_samp", *_SPREAD, sql=_spread_sql("stddev_samp"), aliases=("stddev",)),
    _aggregate("stddev_pop", *_SPREAD, sql=_spread_sql("stddev_pop")),
    _aggregate("variance", *(f"{n} -> double" for n in _MEASURED), sql=_spread_sql("var_pop"), aliases=("var_pop",)),
    _aggregate("var_samp", *(f"{n} -> double" for n in _MEASURED), sql=_spread_sql("var_samp")),
    _aggregate("geometric_mean", *(f"{n} -> double" for n in _MEASURED), sql=_geometric_sql),
    _aggregate("min_by", *_BY_ORDER),
    _aggregate("max_by", *_BY_ORDER),
    _aggregate("percentile", *_PERCENTILE),
    _aggregate("median", *(f"{n} -> double" for n in ("double", "real", *_INTEGERS))),
    _aggregate("hyperloglog_distinct", "V -> bigint", "V,integer -> bigint"),
    _aggregate("topk", "V -> object", "V,integer -> object", "V,integer,integer -> object"),
    _aggregate("lttb", "timestamp,double,integer -> object", "timestamptz,double,integer -> object"),
    _aggregate("bool_and", "boolean -> boolean", sql="bool_and({0}){filter}", aliases=("every",)),
    _aggregate("bool_or", "boolean -> boolean", sql="bool_or({0}){filter}"),
    _aggregate("bit_and", *(f"{n} -> {n}" for n in _INTEGERS), sql="bit_and({0}){filter}"),
    _aggregate("bit_or", *(f"{n} -> {n}" for n in _INTEGERS), sql="bit_or({0}){filter}"),
    _aggregate("corr", "double,double -> double", sql="corr({0}, {1}){filter}"),
    _aggregate("covar_pop", "double,double -> double", sql="covar_pop({0}, {1}){filter}"),
    _aggregate("covar_samp", "double,double -> double", sql="covar_samp({0}, {1}){filter}"),
    _aggregate("_only", "T -> T"),
    _aggregate("_sum_of_logarithms", *(f"{n} -> double" for n in _MEASURED), sql=_logarithms_sql),
    _aggregate("_merge_sets", "E[] -> E[]"),
    *(
        _aggregate(f"_merge_{name}", "bigint,double,double -> double")
        for name in ("variance", "var_samp", "stddev_pop", "stddev_samp")
    ),
    _aggregate(
        "_sum_exact",
        *(f"{n} -> numeric" for n in (*_INTEGERS, "numeric")),
        sql=_exact_sum_sql,
    ),
)
