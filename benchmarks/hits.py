"""Rows like those of ClickBench's ``hits``: 31 of its columns, with the cardinalities, heads and correlations of the real ones.

In: a number of rows and a seed. Out: Arrow columns at rest (``table``, ``batches``), the definition of the table, and its
CREATE TABLE. The same seed gives the same rows. About 6 s a million rows.

What is taken from the real 100 M rows (public query logs and the texts of ClickBench's queries): distinct values and the
shares of the most frequent ones. A table of N rows has ``full · (N / 100 M)^0.7`` distinct users, addresses, URLs, titles
and phrases and ``^0.25`` distinct regions and counters: more rows see new users, but hardly new regions. A value is drawn
from an explicit head (the real shares), a tail that appears once, or a body that falls like Zipf with exponent 0.4.

    UserID 17.6 M distinct, top 0.03 % · URL 18.3 M, top 3.29 % · ClientIP 9.9 M · SearchPhrase 6.0 M, 86.8 % empty ·
    RegionID 9,040, top 18.3 % · CounterID 6,506, 62 has 0.7 % · AdvEngineID 0 in 99.4 % · MobilePhoneModel 166, mostly empty ·
    WatchID unique · EventTime over July 2013, ascending · texts are UTF-8, titles and phrases mostly Cyrillic

Rows come in sessions: runs of hits of one user share address, region, browser and screen, and half of the time the page
of a hit is the referer of the next. That is what codecs live on, so without it a benchmark of bytes would be worth nothing.
The length of texts was chosen so that plain Arrow IPC takes about 270 bytes a row, as for the rows other databases were
measured with (CrateDB 6.4 245, DuckDB 196, Parquet 107 bytes a row).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cratepy.model.arrow import stored_type
from cratepy.model.names import RelationName
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.types import BIGINT, INTEGER, SMALLINT, TEXT, TIMESTAMPTZ, DataType

COLUMNS: Final[dict[str, DataType]] = {
    "WatchID": BIGINT,
    "JavaEnable": SMALLINT,
    "Title": TEXT,
    "EventTime": TIMESTAMPTZ,
    "EventDate": TIMESTAMPTZ,
    "CounterID": INTEGER,
    "ClientIP": INTEGER,
    "RegionID": INTEGER,
    "UserID": BIGINT,
    "OS": SMALLINT,
    "UserAgent": SMALLINT,
    "URL": TEXT,
    "Referer": TEXT,
    "IsRefresh": SMALLINT,
    "ResolutionWidth": SMALLINT,
    "ResolutionHeight": SMALLINT,
    "WindowClientWidth": SMALLINT,
    "WindowClientHeight": SMALLINT,
    "MobilePhone": SMALLINT,
    "MobilePhoneModel": TEXT,
    "TraficSourceID": SMALLINT,
    "SearchEngineID": SMALLINT,
    "SearchPhrase": TEXT,
    "AdvEngineID": SMALLINT,
    "IsLink": SMALLINT,
    "IsDownload": SMALLINT,
    "DontCountHits": SMALLINT,
    "Interests": SMALLINT,
    "URLHash": BIGINT,
    "RefererHash": BIGINT,
    "Age": SMALLINT,
}
_FULL_ROWS: Final = 100_000_000
_FIRST_MS: Final = 1_372_636_800_000  # 2013-07-01
_DAY_MS: Final = 86_400_000
_REGION_HEAD: Final = (0.183, 0.067, 0.043, 0.033, 0.018)
_URL_HEAD: Final = (0.0329, 0.0163, 0.0079, 0.0058, 0.0051)
_BODY_EXPONENT: Final = 0.4
_TAIL_SHARE: Final = 0.3
_SESSION_HITS: Final = 6
#: One generator's chunk; what a chunk holds depends on the seed, the rows and its number only.
CHUNK_ROWS: Final = 250_000


def definition(*, uuid: str = "hits", settings: dict[str, Any] | None = None) -> TableDefinition:
    columns = tuple(ColumnDefinition(oid=i + 1, name=name, type=kind) for i, (name, kind) in enumerate(COLUMNS.items()))
    return TableDefinition(
        name=RelationName("doc", "hits"),
        uuid=uuid,
        oid=1,
        columns=columns,
        settings={} if settings is None else settings,
    )


def create_table(name: str = "hits", *, options: str = "") -> str:
    """The statement; ``options`` go behind the columns."""
    columns = ", ".join(f'"{column}" {kind.kind.upper()}' for column, kind in COLUMNS.items())
    return f"CREATE TABLE {name} ({columns}) {options}"


def table(rows: int, *, seed: int = 1) -> pa.Table:
    """All rows with ClickBench's names."""
    return pa.Table.from_batches(list(chunks(rows, seed=seed)))


def batches(rows: int, *, batch_rows: int, seed: int = 1) -> Iterator[pa.RecordBatch]:
    """Columns as a shard takes them, ``c1`` …: at most ``batch_rows`` each, never across chunks."""
    names = [f"c{i + 1}" for i in range(len(COLUMNS))]
    for chunk in chunks(rows, seed=seed):
        stored = pa.RecordBatch.from_arrays(chunk.columns, names=names)
        for first in range(0, stored.num_rows, batch_rows):
            part = stored.slice(first, batch_rows)
            # A slice would serialize, and be weighed, like the whole chunk's text.
            yield pa.Table.from_batches([part]).combine_chunks().to_batches()[0]


def chunks(rows: int, *, seed: int = 1) -> Iterator[pa.RecordBatch]:
    """The rows in order, ``CHUNK_ROWS`` at a time."""
    texts = _Texts(rows, seed)
    for number, first in enumerate(range(0, rows, CHUNK_ROWS)):
        yield _chunk(np.random.default_rng((seed, number)), first, min(CHUNK_ROWS, rows - first), rows, texts)


def _distinct(full: int, rows: int, *, power: float = 0.7) -> int:
    return max(10, min(full, int(full * (rows / _FULL_ROWS) ** power)))


def _draw(
    random: np.random.Generator, count: int, distinct: int, *, head: tuple[float, ...] = (), tail: float = 0.0
) -> np.ndarray:
    """Ordinals below ``distinct``: the first are the head, the last ones hardly ever repeat."""
    where = random.random(count)
    tail_size = int(distinct * tail)
    body_size = max(1, distinct - len(head) - tail_size)
    body = len(head) + (body_size * random.random(count) ** (1 / (1 - _BODY_EXPONENT))).astype(np.int64)
    bounds = np.cumsum(head)
    chosen = np.where(where < (bounds[-1] if head else 0.0), np.searchsorted(bounds, where), body)
    if tail_size:
        chosen = np.where(where > 1 - tail, distinct - 1 - random.integers(0, tail_size, count), chosen)
    return chosen.astype(np.int64)


def _mixed(ordinals: np.ndarray, salt: int) -> np.ndarray:
    """int64 that looks random and is the same for the same ordinal (splitmix64)."""
    x = (ordinals.astype(np.uint64) + np.uint64(salt)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))).astype(np.int64)


def _uniform(ordinals: np.ndarray, salt: int) -> np.ndarray:
    """Below 1, the same for the same ordinal."""
    return (_mixed(ordinals, salt).astype(np.uint64) >> np.uint64(11)).astype(np.float64) / 2**53


def _of_user(users: np.ndarray, salt: int, values: tuple[int, ...], shares: tuple[float, ...]) -> np.ndarray:
    """A property of each user, the same in all of his hits."""
    places = np.minimum(np.searchsorted(np.cumsum(shares), _uniform(users, salt)), len(values) - 1)
    return np.array(values)[places]


def _regions(users: np.ndarray, rows: int) -> np.ndarray:
    drawn = _uniform(users, 8)
    other = 200 + (_uniform(users, 9) * _distinct(9_040, rows, power=0.25)).astype(np.int64)
    return np.where(drawn < sum(_REGION_HEAD), np.searchsorted(np.cumsum(_REGION_HEAD), drawn), other)


def _chunk(random: np.random.Generator, first: int, count: int, rows: int, texts: _Texts) -> pa.RecordBatch:
    # Sessions are interleaved as visitors are: each hit belongs to one of the sessions that are open around it.
    sessions = max(1, count // _SESSION_HITS)
    session = (np.arange(count) * sessions // count + random.integers(-40, 41, count)).clip(0, sessions - 1)
    session_user = _draw(random, sessions, _distinct(17_630_976, rows), tail=_TAIL_SHARE)
    users = session_user[session]
    session_counter = np.where(
        random.random(sessions) < 0.007,
        62,
        1_000 + 37 * _draw(random, sessions, _distinct(6_506, rows, power=0.25), head=(0.04, 0.03, 0.02)),
    )
    counters = session_counter[session]
    phone = _of_user(users, 5, (0, 1, 2, 3), (0.94, 0.05, 0.005, 0.005))
    width = _of_user(users, 6, (1366, 1920, 1280, 1600, 1024, 1440, 768), (0.27, 0.2, 0.18, 0.1, 0.1, 0.1, 0.05))
    height = width * _of_user(users, 7, (9, 10, 12), (0.5, 0.3, 0.2)) // 16
    url, referer, is_linked = texts.pages(random, session, count)
    title = np.where(random.random(count) < 0.9, _mixed(url, 11), _mixed(url, 12)).astype(np.uint64)
    title = (title % np.uint64(texts.titles_count)).astype(np.int64)
    searches = random.random(count) >= 0.868
    phrase = np.where(searches, 1 + _draw(random, count, texts.phrases_count - 1, tail=_TAIL_SHARE), 0)
    times = _FIRST_MS + ((first + np.arange(count)) / rows * 31 * _DAY_MS).astype(np.int64) // 1_000 * 1_000
    rare = random.random((6, count))
    numbers: dict[str, np.ndarray] = {
        "WatchID": _mixed(first + np.arange(count), 1) >> 1,
        "JavaEnable": _of_user(users, 3, (1, 0), (0.7, 0.3)),
        "EventTime": times,
        "EventDate": times // _DAY_MS * _DAY_MS,
        "CounterID": counters,
        "ClientIP": _mixed(users % _distinct(9_900_000, rows), 4) >> 33,
        "RegionID": _regions(users, rows),
        "UserID": _mixed(users, 2),
        "OS": _of_user(users, 13, (44, 2, 42, 5, 47, 109, 28, 34), (0.4, 0.2, 0.15, 0.1, 0.05, 0.05, 0.03, 0.02)),
        "UserAgent": _of_user(users, 14, (7, 5, 82, 3, 4, 2, 10, 42), (0.3, 0.25, 0.15, 0.1, 0.1, 0.05, 0.03, 0.02)),
        "IsRefresh": rare[0] < 0.12,
        "ResolutionWidth": width,
        "ResolutionHeight": height,
        "WindowClientWidth": width - 16 * (_mixed(users, 15) % 4),
        "WindowClientHeight": (height * 0.8).astype(np.int64) - 7 * (_mixed(users, 16) % 9),
        "MobilePhone": phone,
        "TraficSourceID": np.where(searches, 2, np.where(is_linked, -1, np.where(rare[1] < 0.3, 1, 0))),
        "SearchEngineID": np.where(searches, np.where(rare[2] < 0.75, 2, 3), 0),
        "AdvEngineID": np.where(rare[3] < 0.0063, np.where(rare[3] < 0.004, 2, 27), 0),
        "IsLink": rare[4] < 0.08,
        "IsDownload": rare[5] < 0.002,
        "DontCountHits": rare[4] > 0.93,
        "Interests": _of_user(users, 17, tuple(range(0, 16_000, 500)), (0.4, *[0.02] * 31)),
        "URLHash": _mixed(url, 18),
        "RefererHash": _mixed(referer, 18),
        "Age": _of_user(users, 19, (0, 16, 22, 31, 39, 50), (0.4, 0.1, 0.15, 0.2, 0.1, 0.05)),
    }
    strings = {
        "Title": texts.titles(title),
        "URL": texts.urls(url),
        "Referer": texts.urls(referer),
        "MobilePhoneModel": _MODELS.take(pa.array(np.where(phone > 0, 1 + _mixed(users, 20) % 16 // 15 * 3, 0))),
        "SearchPhrase": texts.phrases(phrase),
    }
    arrays = [
        strings[name] if name in strings else pa.array(numbers[name].astype(np.int64)).cast(stored_type(kind))
        for name, kind in COLUMNS.items()
    ]
    return pa.RecordBatch.from_arrays(arrays, names=list(COLUMNS))


_MODELS: Final = pa.array(["", "iPad", "iPhone 4", "GT-I9500", "Nokia 5800"])


class _Texts:
    """Texts by ordinal; each is made when it is asked for, from words of a fixed vocabulary."""

    def __init__(self, rows: int, seed: int) -> None:
        random = np.random.default_rng((seed, 1 << 40))
        self.urls_count = _distinct(18_300_000, rows)
        self.titles_count = _distinct(9_400_000, rows)
        self.phrases_count = _distinct(6_020_000, rows)
        self._cyrillic = _words(random, "бвгдзклмнпрстфхчш", "аеиоуыя", 20_000)
        self._latin = _words(random, "bcdfgklmnprstvz", "aeiouy", 20_000)
        hosts = _distinct(100_000, rows, power=0.4)
        self._hosts = [
            f"http://{'www.' if i % 3 else ''}{self._latin[i * 7 % 20_000]}.{'ru' if i % 5 else 'com'}/"
            for i in range(hosts)
        ]

    def pages(
        self, random: np.random.Generator, session: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """URL and referer of each hit, and whether the referer is the page before in the same session."""
        url = _draw(random, count, self.urls_count, head=_URL_HEAD, tail=_TAIL_SHARE)
        order = np.argsort(session, kind="stable")
        before = np.empty(count, dtype=np.int64)
        before[order] = np.concatenate((url[order][:1], url[order][:-1]))
        is_linked = random.random(count) < 0.5
        elsewhere = _draw(random, count, self.urls_count, head=_URL_HEAD, tail=_TAIL_SHARE)
        # Ordinal -1 is the empty text: a fifth of all hits come from nowhere.
        outside = np.where(random.random(count) < 0.4, -1, elsewhere)
        return url, np.where(is_linked, before, outside), is_linked

    def urls(self, ordinals: np.ndarray) -> pa.Array:
        latin, hosts = self._latin, self._hosts

        def make(i: int) -> str:
            if i < 0:
                return ""
            m = i * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
            # A host's number is a product: a few hosts have most of the pages.
            path = f"{hosts[(m >> 40) % len(hosts) * (m >> 20 & 255) >> 8]}{latin[m % 211]}/{latin[(m >> 8) % 3001]}"
            if m & 3:
                path += f"-{latin[(m >> 22) % 20_000]}/{m >> 42 & 0x3FFFF}"
            if m & 4:
                path += f"?{latin[m % 17]}={i:x}&{latin[m % 13 + 20]}={latin[(m >> 12) % 509]}"
            if m % 6_000 == 0:
                path += "#google"
            return path

        return _made(ordinals, make)

    def titles(self, ordinals: np.ndarray) -> pa.Array:
        words = self._cyrillic

        def make(i: int) -> str:
            m = i * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
            head = f"{words[m % 97]} {words[(m >> 7) % 997]} {words[(m >> 44) % 4_999]}"
            if m % 1_000 == 0:
                return head + " - Google"
            if m & 1:
                head += f" {words[(m >> 14) % 20_000]}"
            return f"{head} - {words[(m >> 30) % 307]}" if m & 2 else head

        return _made(ordinals, make)

    def phrases(self, ordinals: np.ndarray) -> pa.Array:
        words = self._cyrillic

        def make(i: int) -> str:
            if i == 0:
                return ""
            m = i * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
            return " ".join(words[(m >> 9 * k) % (500, 3_001, 20_000)[k]] for k in range(1 + m % 3))

        return _made(ordinals, make)


def _made(ordinals: np.ndarray, make: Any) -> pa.Array:
    found, places = np.unique(ordinals, return_inverse=True)
    return pc.take(pa.array([make(i) for i in found.tolist()], pa.string()), pa.array(places))


def _words(random: np.random.Generator, consonants: str, vowels: str, count: int) -> list[str]:
    first = random.integers(0, len(consonants), (count, 4))
    second = random.integers(0, len(vowels), (count, 4))
    sizes = random.integers(2, 5, count)
    return ["".join(consonants[first[i, k]] + vowels[second[i, k]] for k in range(sizes[i])) for i in range(count)]
