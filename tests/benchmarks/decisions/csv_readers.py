"""CSV readers on a large undamaged log and on damaged ones (decision 0009).

    uv pip install --target /some/folder polars clevercsv
    retail simulate --users 11100 --days 45 --out log.csv
    PYTHONPATH=.:/some/folder python -m tests.benchmarks.decisions.csv_readers log.csv

Each reader reads every field as text. The first table has its rate in rows per CPU-second and the peak
memory of its process; the second one what it delivers of 10,000 rows of which number 5,000 is damaged.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa

from retail_core import sources
from retail_core.arrow_compute import arrow_csv
from retail_core.errors import InputError
from retail_core.sources.raw_tables import read_raw_tables

HEADER = "user_id,event_time,event_type,item_id,note\n"
ROWS, DAMAGED = 10_000, 5_000
Result = tuple[int, str]
"""Rows delivered, and what is said of the other rows."""


def project_reader(path: Path) -> Result:
    rows, refused = 0, []
    try:
        for table, _ in read_raw_tables(path, sources.get_preset("canonical"), lambda header: None):
            rows += len(table)
            refused += [f"line {row.line}: {row.rule}" for row in table.refused]
    except InputError as error:
        refused.append(str(error).split(": ", 1)[-1])
    return rows, "; ".join(refused[:3])


def pyarrow_stream(path: Path) -> Result:
    rows, refused = 0, []

    def skip(row: object) -> str:
        refused.append(f"row {row.number}: {row.actual_columns} fields")  # type: ignore[attr-defined]
        return "skip"

    options = arrow_csv.ConvertOptions(column_types=dict.fromkeys(_names(path), pa.string()))
    parse = arrow_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip)
    read = arrow_csv.ReadOptions(use_threads=False)
    for batch in arrow_csv.open_csv(path, read, parse, options):
        rows += batch.num_rows
    return rows, "; ".join(refused[:3])


def duckdb_sniffing(path: Path) -> Result:
    return _duckdb(path, "all_varchar=true")


def duckdb_explicit(path: Path) -> Result:
    columns = "{" + ", ".join(f"'{name}': 'VARCHAR'" for name in _names(path)) + "}"
    dialect = "delim=',', quote='\"', escape='\"', header=true, strict_mode=true, max_line_size=16777216"
    return _duckdb(path, f"auto_detect=false, columns={columns}, {dialect}")


def _duckdb(path: Path, options: str) -> Result:
    connection, rows = duckdb.connect(config={"threads": 1}), 0
    query = f"select * from read_csv('{path}', {options}, store_rejects=true)"
    for batch in connection.sql(query).to_arrow_reader(25_000):
        rows += batch.num_rows
    rejects = connection.execute("select line, error_type from reject_errors order by line").fetchall()
    return rows, f"{len(rejects)} rejects " + "; ".join(f"line {row}: {kind}" for row, kind in rejects[:3])


def _names(path: Path) -> list[str]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        header = file.readline()
    return header.decode().split("\r")[0].strip().replace('"', "").split(",")


def polars_reader(path: Path) -> Result:
    import polars as pl

    frame = pl.scan_csv(path, infer_schema=False, ignore_errors=True, truncate_ragged_lines=False)
    return frame.select(pl.len(), pl.all().count().name.suffix("_n")).collect(engine="streaming")[0, 0], ""


def python_csv(path: Path) -> Result:
    rows = 0
    with path.open(newline="") if path.suffix != ".gz" else gzip.open(path, "rt", newline="") as lines:
        reader = csv.reader(lines, strict=True)
        for _ in reader:
            rows += 1
    return rows - 1, ""


def clevercsv_reader(path: Path) -> Result:
    import clevercsv

    with path.open(newline="") as lines:
        dialect = clevercsv.Sniffer().sniff(lines.read(20_000))
        lines.seek(0)
        return sum(1 for _ in clevercsv.reader(lines, dialect)) - 1, f"delimiter {dialect.delimiter!r}"


READERS: dict[str, tuple[str, Callable[[Path], Result]]] = {
    "project": ("retail_core", project_reader),
    "pyarrow": ("pyarrow", pyarrow_stream),
    "duckdb": ("duckdb", duckdb_sniffing),
    "duckdb, explicit": ("duckdb", duckdb_explicit),
    "polars": ("polars", polars_reader),
    "csv": ("csv", python_csv),
    "clevercsv": ("clevercsv", clevercsv_reader),
}


def damaged_files(folder: Path) -> dict[str, tuple[Path, int]]:
    """Path and number of undamaged rows of each kind of damage."""
    good = [
        f"u{row},2025-01-01T00:00:00Z,view_item,i{row * 7919 % 10_007},\n".encode() for row in range(ROWS)
    ]
    start = b"u,2025-01-01T00:00:00Z,view_item,"
    damages = {
        "quote never closed": start + b'"i3,\n',
        "text after a closing quote": start + b'"i"3,\n',
        "two fields short": b"u,2025-01-01T00:00:00Z,view_item\n",
        "two fields too many": start + b"i,n,too,many\n",
        "byte that is not UTF-8": start + b"i\xff,\n",
        "NUL byte": start + b"i\x00,\n",
        "field of 140,000 characters": start + b"i," + b"x" * 140_000 + b"\n",
    }
    files: dict[str, tuple[Path, int]] = {}
    for number, (name, row) in enumerate(damages.items()):
        content = [*good[:DAMAGED], row, *good[DAMAGED + 1 :]]
        files[name] = (folder / f"{number}.csv", ROWS - (name != "field of 140,000 characters"))
        files[name][0].write_bytes(HEADER.encode() + b"".join(content))
    content_bytes = HEADER.encode() + b"".join(good)
    quoted = [*good[:DAMAGED], start + b'"a\nb",\n', *good[DAMAGED + 1 :]]
    for name, data in {
        "quoted line break (no damage)": HEADER.encode() + b"".join(quoted),
        "line ends CR alone (no damage)": content_bytes.replace(b"\n", b"\r"),
    }.items():
        files[name] = (folder / f"{len(files)}.csv", ROWS)
        files[name][0].write_bytes(data)
    packed = gzip.compress(content_bytes)
    cut = folder / "cut.csv.gz"
    cut.write_bytes(packed[: len(packed) * 3 // 4])
    files["gzip cut off after three quarters"] = (cut, -1)
    return files


def rate(name: str, path: Path) -> None:
    """Read the log once in this process and print what it took."""
    started = time.process_time()
    rows, _ = READERS[name][1](path)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        json.dumps({"reader": name, "rows": rows, "rows/CPU-second": round(rows / seconds), "peak MB": peak})
    )


def damages() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for damage, (path, good) in damaged_files(Path(folder)).items():
            print(f"{damage}: {good} undamaged rows" if good > 0 else damage)
            for name, (module, read) in READERS.items():
                if importlib.util.find_spec(module) is None:
                    continue
                try:
                    rows, remarks = read(path)
                except Exception as error:  # noqa: BLE001 - what a reader raises is the finding
                    rows, remarks = 0, f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
                print(f"    {name:16} {rows:6} rows  {remarks[:200]}")


def main() -> None:
    if len(sys.argv) == 3:
        rate(sys.argv[1], Path(sys.argv[2]))
        return
    plain = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        quoted = Path(folder) / "quoted.csv"
        with plain.open(newline="") as source, quoted.open("w", newline="") as target:
            csv.writer(target, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(csv.reader(source))
        for path in (plain, quoted):
            print("plain" if path == plain else "every field quoted")
            for name, (module, _) in READERS.items():
                if importlib.util.find_spec(module) is not None:
                    subprocess.run([sys.executable, "-m", __spec__.name, name, str(path)], check=False)
    damages()


if __name__ == "__main__":
    main()
