"""What DuckDB's SQL cannot do with files, as a dbt-duckdb plugin (named in profiles.yml).

DuckDB's own readers stop a whole statement at the first corrupt file, read a truncated gzip in part without an error,
and know modification times in whole seconds only. The SQL functions made here answer instead of raising, so that one
bad file stops its own feed and nothing else:

- list_files(landing, feed) -> [{path, size, modified_ns}]: what lies in a feed's folder, or in all of them for
  feed ''; paths are relative to `landing`; a folder where a file could be ends in '/'; [] if there is no such folder
- is_folder(path) -> whether it is one
- inspect_file(path) -> {columns, is_plain, fault}: names in the header, in order; whether each of its lines is a record
  that can be split at its commas; `fault` says why the file cannot be read
- read_file(path) -> the bytes of a CSV file, unzipped and without a byte order mark
- is_file(path) -> whether it is one
- remove_file(path), copy_file(path, other), replace_file(path, other) -> true; `path` is gone, is there twice, or
  stands in the place of `other` at once

Opening the warehouse waits until another process lets go of it, and names that process. A build that cannot open it is
written down in a file beside it.
"""

import codecs
import contextlib
import csv
import functools
import gzip
import io
import json
import os
import re
import shutil
import time
import zlib
from datetime import datetime, timezone

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.events.logging import AdapterLogger
from dbt_common.exceptions import DbtRuntimeError
from dbt_common.invocation import get_invocation_id

LOCK_WAIT_SECONDS = 600
BEGAN_AT = time.monotonic()  # dbt tries several times, and waits once
DELIVERY_DEPTH = 3  # feed / delivery date / name
NOT_PLAIN = bytes({*range(32), *b'"'} - {*b"\n"})
CHUNK = 1 << 20  # bytes; DuckDB's reader takes lines of up to two of them


def list_files(landing, feed):
    def walk(folder, depth):
        try:
            entries = list(os.scandir(folder))
        except OSError:
            return  # no such folder, or no longer
        for entry in entries:
            try:
                status, is_folder = entry.stat(), entry.is_dir()
            except OSError:
                continue  # gone since it was listed, or a link to nowhere
            if is_folder and depth < DELIVERY_DEPTH:
                yield from walk(entry.path, depth + 1)
            else:
                # A name that is not UTF-8 cannot be a text value; what is left of it still shows where to look.
                path = os.path.relpath(entry.path, landing).encode(errors="replace").decode()
                yield {
                    "path": path + "/" * is_folder,
                    "size": status.st_size,
                    "modified_ns": status.st_mtime_ns,
                }

    return list(walk(os.path.join(landing, feed), 2 if feed else 1))


def inspect_file(path):
    columns, is_plain, fault = [], False, None
    try:
        if path.endswith(".parquet"):
            columns = _parquet_columns(path) if os.path.getsize(path) else []
        else:
            columns = _csv_columns(path)
            # DuckDB would take a name with such characters for a pattern.
            is_plain = not path.endswith(".gz") and not re.search(r"[*?\[]", path) and _is_plain(path)
    except (OSError, EOFError, zlib.error, ValueError, csv.Error, duckdb.Error) as error:
        fault = str(error).splitlines()[0][:300]
    return {"columns": columns, "is_plain": is_plain, "fault": fault}


def read_file(path):
    with _open(path) as file:
        return file.read().removeprefix(b"\xef\xbb\xbf")


def remove_file(path):
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
    return True


def copy_file(path, other):
    shutil.copyfile(path, other)
    return True


def replace_file(path, other):
    os.replace(path, other)
    return True


def _open(path):
    return gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")


def _csv_columns(path):
    with _open(path) as file:
        if path.endswith(".gz"):
            while file.read(CHUNK):  # a truncated or corrupt archive raises here
                pass
            if file.tell() == 0:
                return []
            file.seek(0)
        elif os.path.getsize(path) == 0:
            return []
        lines = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        columns = next((record for record in csv.reader(lines, strict=True) if record), None)
    if columns is None:
        raise ValueError("the file has no header line")
    if any(re.search("[\udc80-\udcff]", name) for name in columns):
        raise ValueError("the header is not UTF-8")
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise ValueError(f"the header has the name '{repeated[0]}' more than once")
    return columns


def _is_plain(path):
    """Whether it is UTF-8 without quotes, without control characters but line feeds, and without endless lines."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                if len(chunk.translate(None, NOT_PLAIN)) < len(chunk) or (len(chunk) == CHUNK and b"\n" not in chunk):
                    return False
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _parquet_columns(path):
    # A name may hold the characters of a pattern.
    pattern = re.sub(r"([*?\[])", r"[\1]", path)
    with duckdb.connect() as connection:
        reader = "read_parquet($path, hive_partitioning = false)"
        for name, kind, *_ in connection.execute(f"describe select * from {reader}", {"path": pattern}).fetchall():
            if kind != "VARCHAR":
                raise ValueError(f"the column '{name}' is {kind.lower()}, and columns have to be strings")
        # Reading every value finds what is corrupt behind a sound footer.
        connection.execute(f"select max(hash(columns(*))) from {reader}", {"path": pattern}).fetchall()
        names = connection.execute("select name from parquet_schema($path)", {"path": pattern}).fetchall()
    return [name for (name,) in names[1:]]  # the first is the schema's own


@functools.cache  # once for all that dbt tries
def _write_down(warehouse, message):
    """Leaves a build that cannot open the warehouse beside it, for the next one that can to record."""
    build = {
        "build_id": get_invocation_id(),
        "began_at": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f"),
        "message": message,
        "run": os.environ.get("DBT_ENV_CUSTOM_ENV_DAGSTER_RUN", "{}"),
    }
    # Where nothing can be written at all, the error has to do.
    with contextlib.suppress(OSError), open(f"{warehouse.removesuffix('.duckdb')}_unopened.json", "a") as file:
        file.write(json.dumps(build) + "\n")


class Plugin(BasePlugin):
    def update_connection_config(self, creds, config):
        waits_for = None
        while True:
            try:
                duckdb.connect(creds.path, config=config).close()
                return
            except duckdb.IOException as error:
                holder = re.search(r"lock is held in (.*?\(PID \d+\))", str(error))
                if holder and time.monotonic() < BEGAN_AT + LOCK_WAIT_SECONDS:
                    if holder[1] != waits_for:
                        waits_for = holder[1]
                        AdapterLogger("DuckDB").warning(
                            f"Waiting for {waits_for}, which has {creds.path} open: let it finish, or close it."
                        )
                    time.sleep(1)
                    continue
                message = f"The warehouse {creds.path} cannot be opened: {error}"
                if holder:
                    message = (
                        f"The warehouse {creds.path} was in use by {holder[1]} for {LOCK_WAIT_SECONDS} seconds:"
                        " close that process, or let it finish, and build again."
                    )
                _write_down(creds.path, message)
                raise DbtRuntimeError(message) from None

    def configure_connection(self, conn):
        listing = "struct(path varchar, size bigint, modified_ns bigint)[]"
        inspection = "struct(columns varchar[], is_plain boolean, fault varchar)"
        conn.create_function("list_files", list_files, ["varchar", "varchar"], listing, side_effects=True)
        conn.create_function("is_folder", os.path.isdir, ["varchar"], "boolean", side_effects=True)
        conn.create_function("is_file", os.path.isfile, ["varchar"], "boolean", side_effects=True)
        conn.create_function("inspect_file", inspect_file, ["varchar"], inspection, side_effects=True)
        conn.create_function("read_file", read_file, ["varchar"], "blob", side_effects=True)
        conn.create_function("remove_file", remove_file, ["varchar"], "boolean", side_effects=True)
        conn.create_function("copy_file", copy_file, ["varchar", "varchar"], "boolean", side_effects=True)
        conn.create_function("replace_file", replace_file, ["varchar", "varchar"], "boolean", side_effects=True)
