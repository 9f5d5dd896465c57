"""Deliveries of a shop whose systems do everything wrong that the input contract allows for, and much that it forbids.

    for step in deliveries(seed=7, steps=30):
        print(step(landing))

Each step changes the landing directory (writes, rewrites and deletes a few files) and returns one line that says so. A
step holds its content and modification times and depends on nothing but the seed: the same steps can be applied to any
number of directories.
"""

import gzip
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import duckdb

# Customer → the token in each of their names, and that in each of their emails. Nothing else holds either.
_TOKENS = {"C-1": "7f3a", "c-1": "0b91", "007": "c4e2", "7": "52d8", 'ö, "6"': "e6a0", " ": "19bc"}
PERSONAL = {customer_id: (f"Name-{token}", f"{token}@example.org") for customer_id, token in _TOKENS.items()}
# The same for what may never be stored of anybody: malformed lines, lines without a customer_id, extra columns.
STRANGER = ("Name-dead", "dead@example.org")
STRANGER_ROW = {"name": STRANGER[0], "email": STRANGER[1]}


def words(text: str) -> list[str]:
    return text.split()


COLUMNS = {
    "orders": words("op order_id customer_id product_id status quantity unit_price ordered_at changed_at change_no"),
    "payments": words("payment_id order_id kind amount paid_at"),
    "customers": words("customer_id name email country_code signed_up_at"),
    "products": words("product_id product_name category list_price as_of"),
    "erasures": words("customer_id requested_at"),
    "retractions": words("batch_id retracted_at reason"),
}
PRODUCTS = "products/current.csv"
ORDERS = ["o1", "O1", "o 2", "o,3", "04", "4", "ø5", 'o"6']
ITEMS = ["P-1", "P-2", "P-3", "p, 4"]
PAYMENTS = ["p1", "p2", "p3", "P3", "05", "5", "p6"]

DAYS = ["2025-12-31", "2026-01-01", "2026-01-02", "2026-01-03", "2026-01-10", "2024-02-29"]
NAMES = [" lead", "two words", *words("0001 it's quo\"te [x] {a,b} Ünïcode-名 e\u0301 100%25 #1 st*r q? k=v a;b (1)")]
NAMES += words("a.csv x.tmp.y ~ $HOME - &")
ENDINGS = [".csv", ".csv", ".csv.gz", ".parquet"]
NO_DELIVERIES = words("""
    orders/2026-01-02/.hidden.csv orders/2026-01-02/_x.csv orders/2026-01-02/x.csv.tmp orders/2026-01-02/x.csv.part
    orders/2026-01-02/x.tmp orders/2026-01-02/x.txt orders/2026-01-02/x.CSV orders/2026-01-02/.csv orders/x.csv
    customers/2026-01-02/x.csv.bz2 customers/2026-01-02/x.gz customers/2026-01-02/csv Customers/2026-01-02/x.csv
    customers/2026-01-02/deeper/x.csv customers/2026-01-02/deeper.csv/x.csv customers/2026-01-02/x.parquet.tmp
    payments/2026-02-30/x.csv payments/2026-13-01/x.csv payments/2026-1-2/x.csv payments/20260102/x.csv payments.csv
    payments/202\u0666-01-02/x.csv payments/2026-01-02T00/x.csv _payments/2026-01-02/x.csv refunds/2026-01-02/x.csv
    products/2026-01-02/x.csv products/current.csv.gz products/other.csv products/.current.csv 2026-01-02/x.csv
""")

# What a column may hold instead of an ordinary value: look-alikes, most of them wrong and some of them right.
WHOLES = words("1e3 0x10 1_000 +5 5.7 5.0 007 -0 -5 five 1,000 --5 - 0 NaN 000000000000000005 1000000 999999")
WHOLES += ["", " 5", "5 ", "5\n", "1" * 19, "9" * 18, "\u0665", "\uff15", "\u00b2"]
MONEYS = words(
    "1e3 0x10 1_000 +5 1.234 5.000 .5 5. -.5 -0 -0.00 -0.01 -5.00 0 0.00 0.01 007.5 1,50 €5 5.7.1 NaN inf --5"
)
MONEYS += ["", " 5", "5 ", "5.00\n", "9" * 10 + ".99", "9" * 11, "0" * 11, "\u0665.5"]
TIMES = words("""
    2026-01-02T24:00:00 2026-13-01T00:00:00 2026-00-01T00:00:00 2026-02-30T00:00:00 2025-02-29T00:00:00 2026-01-02
    2026-01-02T00:00:60 2026-01-02T00:60:00 1899-12-31T23:59:59Z 3000-01-01T00:00:00 0000-01-01T00:00:00 2026-1-2T0:0:0
    2026-01-02t00:00:00 2026-01-02T00:00:00z 2026-01-02T00:00:00+5:00 2026-01-02T00:00:00+0500 2026-01-02T00:00:00+05
    2026-01-02T00:00 20260102T000000 2026-01-02T00:00:00. 2026-01-02T00:00:00,5 2026-01-02T00:00:00.5.5 now infinity
    2026-01-02T00:00:00+05:60 2026-01-02T00:00:00+24:00 1767312000 epoch
    2026-01-02T00:00:00\u221205:00 202\u0666-01-02T00:00:00
    2026-01-02T00:00:00ZZ 12026-01-02T00:00:00 -2026-01-02T00:00:00 2026-01-02T00:00:00+05:00:00 2026-01-02Z
    2024-02-29T23:59:59 1900-01-01T00:00:00 2999-12-31T23:59:59.9999999Z 2026-01-02T00:00:00-00:00
    2026-01-01T00:30:00+14:00 2026-01-01T23:30:00.5-12:00 2026-01-02T12:00:00.000000000+23:59
""")
TIMES += ["", "2026-01-02T00:00:00 ", " 2026-01-02T00:00:00", "2026-01-02  00:00:00", "2026-01-02T00:00:00\n"]
TIMES += ["2026-01-02T00:00:00 Z", "2026-01-02T00:00:00 +05:00", "2026-01-02T00:00:00 UTC", "02.01.2026 00:00:00"]
ODD = {
    "op": ["", "i", "X", "D ", "UI", "delete"],
    "customer_id": [""],
    **{column: ["", "", " "] for column in words("order_id payment_id product_id batch_id")},
    "status": ["", "Placed", "paid ", "PAID", "lost", "shipped\n"],
    "kind": ["", "Charge", "charge ", "refunds"],
    "country_code": ["", "XX", "na", "DE ", "UK", "null"],
    **{column: WHOLES for column in words("quantity change_no")},
    **{column: MONEYS for column in words("unit_price amount")},
    **{column: TIMES for column in words("ordered_at changed_at paid_at signed_up_at requested_at retracted_at")},
}
NOT_UTF8 = [b"\xff", b"\x80", b"\xe2\x82", b"\xed\xa0\x80", b"\xc0\xaf", b"Z\xfcrich"]
UNREADABLE_CSV = [
    *(b"\n\r\n\r", b"\xef\xbb\xbf", b'"customer_id,op\n', b'"customer_id"x,op\n1,I\n', b"customer_id,b\xe4d\n1,2\n"),
    b"customer_id,note,order_id,customer_id\n1,2,3,4\n",
]
_ZIPPED = gzip.compress(b"order_id,op\n1,I\n" * 9, mtime=0)
UNREADABLE_GZ = [_ZIPPED[:-9], _ZIPPED[:5], _ZIPPED[:-8] + bytes(4) + _ZIPPED[-4:], b"order_id,op\n1,I\n"]

Row = dict[str, str]


@dataclass(frozen=True)
class Parquet:
    """Content of a file that DuckDB has to write: columns by name with their types, rows of texts and nulls."""

    columns: dict[str, str]
    rows: list[list[str | None]]

    def write(self, path: Path) -> None:
        columns = ", ".join(f'"{name}" {kind}' for name, kind in self.columns.items())
        with duckdb.connect() as connection:
            connection.execute(f"create table content ({columns})")
            for row in self.rows:
                connection.execute(f"insert into content values ({', '.join('?' * len(row))})", row)
            connection.table("content").write_parquet(str(path))


UNREADABLE_PARQUET = [
    Parquet({"customer_id": "varchar", "order_id": "bigint"}, [["C-1", "1"]]),
    *(b"PAR1 and nothing of the kind PAR1", b"P"),
]


@dataclass(frozen=True)
class Change:
    note: str
    path: str  # below the landing directory
    content: bytes | Parquet | None  # None deletes the file
    modified: int  # modification time in whole seconds, that of no other change


@dataclass(frozen=True)
class Step:
    changes: list[Change]

    def __call__(self, landing: Path) -> str:
        for change in self.changes:
            path = landing / change.path
            path.unlink(missing_ok=True)
            if change.content is None:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(change.content, Parquet):
                change.content.write(landing / "_parquet.tmp")  # DuckDB takes some names for patterns
                (landing / "_parquet.tmp").rename(path)
            else:
                path.write_bytes(change.content)
            os.utime(path, (change.modified, change.modified))
        return "; ".join(f"{change.note} {change.path!r}" for change in self.changes)


def deliveries(seed: int, steps: int, unreadable: bool = True) -> Iterator[Step]:
    """Yields `steps` steps. With `unreadable` some bring files that cannot be read; the last step replaces any left."""
    shop = Shop(random.Random(seed))
    for left in reversed(range(steps)):
        yield shop.step(may_break=unreadable and left > 0, repair_all=left == 0)


class Shop:
    """Writes the steps out of chance and what it remembers of those before."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.maybe = lambda probability: chance.random() < probability
        self.names = chance.sample(NAMES, 4)  # few, so that paths come again
        self.erasable = chance.sample(list(PERSONAL), 3)  # not all, so that somebody is left
        self.past: dict[str, list[Row]] = {feed: [] for feed in COLUMNS}  # rows that may come again
        self.paths: list[str] = []  # delivered, or retracted before they are
        self.there: set[str] = set()
        self.broken: set[str] = set()
        self.changes = 0
        self.most_rows = 30
        self.as_of = datetime(2026, 1, 1)

    # --- steps --------------------------------------------------------------------------------------------------------

    def step(self, may_break: bool, repair_all: bool, most_files: int = 5) -> Step:
        changes = [self.deliver(path) for path in sorted(self.broken) if repair_all or self.maybe(0.4)]
        actions = [self.deliver, self.empty, self.disappear, self.no_delivery, self.half_write, self.break_file]
        weights = [10, 0.7, 0.7, 0.7, 0.7, 0.5 * may_break]
        count = min(self.chance.choice([1, 2, 3, 5]), most_files)
        return Step(changes + [action() for action in self.chance.choices(actions, weights, k=count)])

    def change(self, note: str, path: str, content: bytes | Parquet | None) -> Change:
        self.broken.discard(path)
        self.there.discard(path)
        if content is not None:
            self.there.add(path)
        self.changes += 1
        # Back as well as forth: a restored file may be older than the one that it replaces.
        return Change(note, path, content, 1_780_000_000 + self.changes * self.chance.choice([1, 1, 1, -1]))

    def deliver(self, path: str | None = None) -> Change:
        path = path or self.path()
        feed = path.split("/")[0]
        note, rows = self.rows(feed)
        return self.change(f"write {note} to", path, self.content(feed, path, rows))

    def empty(self) -> Change:
        path = self.path()
        if path.endswith(".csv") and self.maybe(0.5):
            return self.change("write a header alone to", path, ",".join(COLUMNS[path.split("/")[0]]).encode())
        nothing = gzip.compress(b"", mtime=0) if path.endswith(".gz") and self.maybe(0.5) else b""
        return self.change("write nothing to", path, nothing)

    def disappear(self) -> Change:
        return self.change("delete", self.chance.choice(sorted(self.there) or ["nothing"]), None)

    def no_delivery(self) -> Change:
        path = self.chance.choice(NO_DELIVERIES)
        feed = next((feed for feed in COLUMNS if feed in path.lower()), "orders")
        _, rows = self.rows(feed)
        return self.change("write no delivery to", path, self.content(feed, path, rows))

    def half_write(self) -> Change:
        path = self.path()
        content = self.content(path.split("/")[0], path, self.rows(path.split("/")[0])[1])
        half = b"PAR1" if isinstance(content, Parquet) else content[: len(content) // 2]
        return self.change("write half of a file to", path + self.chance.choice([".part", ".tmp"]), half)

    def break_file(self) -> Change:
        path = self.path()
        unreadable = {"parquet": UNREADABLE_PARQUET, "gz": UNREADABLE_GZ, "csv": UNREADABLE_CSV}
        content = self.chance.choice(unreadable[path.split(".")[-1]])
        change = self.change("write an unreadable file to", path, content)
        self.broken.add(path)
        return change

    def path(self) -> str:
        feed = self.chance.choices(list(COLUMNS), [5, 3, 6, 2, 2, 2])[0]
        known = [path for path in self.paths if path.startswith(feed)]
        if feed == "products":
            return PRODUCTS
        return self.chance.choice(known) if known and self.maybe(0.4) else self.new_path(feed)

    def new_path(self, feed: str) -> str:
        day, name, ending = (self.chance.choice(values) for values in (DAYS, self.names, ENDINGS))
        path = f"{feed}/{day}/{name}{ending}"
        self.paths += [] if path in self.paths else [path]
        return path

    # --- rows ---------------------------------------------------------------------------------------------------------

    def rows(self, feed: str) -> tuple[str, list[Row]]:
        """A note, and the rows with all columns of the feed."""
        if feed == "products":
            return self.products()
        make = getattr(self, feed.removesuffix("s"))
        count = self.chance.choice([0, 1, 1, 2] if feed in ("erasures", "retractions") else [0, 1, 3, 8, 8, 30])
        count = min(count, self.most_rows)
        rows = [self.again(feed, make()) if self.past[feed] and self.maybe(0.25) else make() for _ in range(count)]
        self.past[feed] += rows
        wrong = self.chance.choice([0, 0, 0.15, 0.3, 1])
        rows = [self.spoil(row) if self.maybe(wrong) else row for row in rows]
        note = f"{len(rows)} rows"
        if self.maybe(0.1):  # a whole column gone wrong
            column = self.chance.choice([column for column in COLUMNS[feed] if column in ODD])
            value = self.chance.choice(ODD[column])
            note, rows = f"{note} with {column} {value!r}", [row | {column: value} for row in rows]
        return note, rows

    def again(self, feed: str, new: Row) -> Row:
        """A row that was delivered before, perhaps but for one value: then its key, times and numbers tie."""
        row, column = self.chance.choice(self.past[feed]), self.chance.choice(COLUMNS[feed])
        if feed == "customers" and column in ("customer_id", "name", "email"):
            return row  # customers do not share what is personal
        return self.chance.choice([row, row | {column: new[column]}])

    def spoil(self, row: Row) -> Row:
        columns = sorted(row.keys() & ODD.keys())
        for column in self.chance.sample(columns, min(len(columns), self.chance.choice([1, 1, 2, 3]))):
            row = row | {column: self.chance.choice(ODD[column])}
        if row.get("quantity") == "999999" and len(row["unit_price"]) > 9:
            row["quantity"] = "1"  # a few such orders of one day would not fit into decimal(18, 2)
        return row

    def order(self) -> Row:
        row = {
            "op": self.chance.choice("IIUUUD"),
            "order_id": self.chance.choice(ORDERS),
            "customer_id": self.chance.choice([*PERSONAL, "nobody"]),
            "product_id": self.chance.choice(ITEMS),
            "status": self.chance.choice(words("placed paid shipped completed returned cancelled")),
            "quantity": self.chance.choice(words("1 2 3 12")),
            "unit_price": self.chance.choice(words("0 0.5 9.99 10 10.00 250")),
            "ordered_at": self.time(),
            "changed_at": self.time(),
            "change_no": self.chance.choice(words("0 1 2 9 10 -1 -0")),
        }
        if row["op"] == "D" and self.maybe(0.5):
            row |= {column: "" for column in COLUMNS["orders"][2:8]}
        return row

    def payment(self) -> Row:
        return {
            "payment_id": self.chance.choice(PAYMENTS),
            "order_id": self.chance.choice([*ORDERS, "never"]),
            "kind": self.chance.choice(words("charge charge refund")),
            "amount": self.chance.choice(words("0.01 5 5.0 5.00 9.99 10 100")),
            "paid_at": self.time(),
        }

    def customer(self) -> Row:
        customer_id = self.chance.choice(list(PERSONAL))
        name, email = PERSONAL[customer_id]
        return {
            "customer_id": customer_id,
            "name": self.chance.choice([name] * 4 + [f'{name}, "Jr"', f"{name}\r\n2nd line", f"née {name}", ""]),
            "email": self.chance.choice([email] * 4 + [f"x+{email}", ""]),
            "country_code": self.chance.choice(words("DE DE DE NA NA TW")),
            "signed_up_at": self.time(),
        }

    def erasure(self) -> Row:
        return {"customer_id": self.chance.choice([*self.erasable, "unknown"]), "requested_at": self.time()}

    def retraction(self) -> Row:
        paths = [*self.paths, PRODUCTS]
        kind = self.chance.choice(["any", "any", "future", "no batch"])
        if kind == "future":
            batch_id = self.new_path(self.chance.choice(["orders", "payments", "customers"]))
        elif kind == "any":
            batch_id = self.chance.choice(paths)
        else:
            wrong = ["orders", "orders/2026-01-02/", "%", "*", *NO_DELIVERIES, *(f"./{path}" for path in paths)]
            batch_id = self.chance.choice([*wrong, *(f"{path} " for path in paths), *(path.upper() for path in paths)])
        return {"batch_id": batch_id, "retracted_at": self.time(), "reason": self.chance.choice(["", "twice, sorry"])}

    def products(self) -> tuple[str, list[Row]]:
        kinds = ["newer"] * 8 + ["same as_of", "older", "mixed as_of", "repeated id", "odd id", "odd as_of", "none"]
        kind = self.chance.choice(kinds)
        self.as_of += timedelta(hours=0 if kind in ("same as_of", "older") else self.chance.choice([1, 7, 48]))
        moment = self.as_of - timedelta(days=kind == "older")
        as_of = self.time(moment)
        rows = [
            {
                "product_id": product_id,
                "product_name": self.chance.choice(["Lamp", "Lamp", 'Lamp 10", "big"', "Lamp\nblue", ""]),
                "category": self.chance.choice(["home", "home", "garden", ""]),
                "list_price": self.chance.choice(MONEYS if self.maybe(0.2) else words("5 5 5.0 5.00 19.99 -1")),
                "as_of": as_of,
            }
            for product_id in self.chance.sample(ITEMS, self.chance.choice([1, 2, 3, 3, 4, 4]))
        ]
        last = rows[-1]
        if kind == "mixed as_of":
            rows.append(last | {"product_id": "P-9", "as_of": self.time(moment + timedelta(seconds=1))})
        elif kind == "repeated id":
            rows.append(last | {"category": self.chance.choice(["home", "other"])})
        elif kind == "odd id":
            last["product_id"] = self.chance.choice(["", " "])
        elif kind == "odd as_of":
            wrong = self.chance.choice(TIMES)
            rows = [row | {"as_of": wrong} for row in rows]
        elif self.maybe(0.1):
            rows = [row | {"as_of": self.time(moment)} for row in rows]  # one instant in several forms
        return f"{len(rows)} products ({kind}, {moment})", rows if kind != "none" else []

    def time(self, moment: datetime | None = None) -> str:
        """The moment, or one near enough to others to tie with them, in one of the forms that are allowed."""
        if moment is None:
            seconds = self.chance.choice([0, 0, 1, 3600, 43200, 86399]) + 86400 * self.chance.choice([0, 0, 1, 2, 3])
            microseconds = self.chance.choice([0, 0, 0, 1, 100_000, 999_999])
            moment = datetime(2026, 1, 1) + timedelta(seconds=seconds, microseconds=microseconds)
        digits = f"{moment.microsecond:06}"
        digits = self.chance.choice([digits.rstrip("0"), digits + self.chance.choice(["", "9", "000", "999"])])
        zones = {"": 0, "Z": 0, "+00:00": 0, "+05:30": 330, "-08:00": -480, "+14:00": 840}  # minutes
        zone = self.chance.choice(list(zones))
        local = moment + timedelta(minutes=zones[zone])
        return f"{local:%Y-%m-%d}{self.chance.choice('T ')}{local:%H:%M:%S}{'.' if digits else ''}{digits}{zone}"

    # --- content ------------------------------------------------------------------------------------------------------

    def content(self, feed: str, path: str, rows: list[Row]) -> bytes | Parquet:
        header = list(COLUMNS[feed])
        if self.maybe(0.06):  # a column is missing, or goes by another case
            place = self.chance.randrange(len(header))
            header[place : place + 1] = self.chance.choice([[], [header[place].upper()]])
        if self.maybe(0.2):
            extra = ["note", "Name", "e-mail", "filename", "row_no", "_batch_id", "", COLUMNS[feed][0].title()]
            header += self.chance.sample(extra, self.chance.choice([1, 2]))
        if self.maybe(0.5):
            self.chance.shuffle(header)
        if feed == "customers":
            known = "customer_id" in header
            rows = [row if known and row["customer_id"] else row | STRANGER_ROW for row in rows]
        table = [{name: row.get(name, self.chance.choice([*STRANGER, "1", ""])) for name in header} for row in rows]
        if path.endswith(".parquet"):
            return self.parquet(feed, header, table)
        content = self.csv(header, table)
        if not path.endswith(".gz"):
            return content
        middle = self.chance.choice([0, len(content) // 2])  # a gzip file may be several, one behind the other
        return b"".join(gzip.compress(part, mtime=0) for part in (content[:middle], content[middle:]) if part)

    def parquet(self, feed: str, header: list[str], table: list[Row]) -> Parquet:
        # DuckDB writes no empty name, and no two that differ in case alone: of those the feed's own column stays.
        unique = {name.lower(): name for name in sorted(header, key=COLUMNS[feed].__contains__) if name}
        names = [name for name in header if name in unique.values()]
        null = self.chance.choice(["", None])
        return Parquet(dict.fromkeys(names, "varchar"), [[row[name] or null for name in names] for row in table])

    def csv(self, header: list[str], table: list[Row]) -> bytes:
        quoting = self.chance.choice([0, 0, 0.5, 1])
        ends = self.chance.choice([[b"\n"], [b"\n"], [b"\r\n"], [b"\r"], [b"\n", b"\r\n", b"\r"]])
        malformed, blank = self.chance.choice([0, 0, 0, 0.05, 0.3]), self.chance.choice([0, 0, 0.2])
        lines = [self.fields(header, quoting)]
        for row in table:
            if self.maybe(malformed):
                stranger = {name: value for name, value in STRANGER_ROW.items() if name in row}
                lines.append(self.malformed(self.fields((row | stranger).values(), quoting)))
            else:
                lines.append(self.fields(row.values(), quoting))
        if malformed and self.maybe(0.2):  # an open quote takes all that follows
            lines.append([*lines[-1][:-1], b'"' + STRANGER[0].encode() + b"\nC-1,o1,p1\r\n"])
        content = b"\xef\xbb\xbf" if self.maybe(0.15) else b""
        for fields in lines:
            while self.maybe(blank):
                content += self.chance.choice(ends)
            content += (b",".join(fields) or b'""') + self.chance.choice(ends)  # an empty line would be no line
        return content if self.maybe(0.7) else content.rstrip(b"\r\n")

    def fields(self, values: list[str], quoting: float) -> list[bytes]:
        fields = []
        for value in values:
            # A quote that does not come first is an ordinary character, so that such a value may stay as it is.
            if value.startswith('"') or any(char in value for char in ",\r\n") or self.maybe(quoting):
                value = '"{}"'.format(value.replace('"', '""'))
            fields.append(value.encode())
        return fields

    def malformed(self, fields: list[bytes]) -> list[bytes]:
        kind = self.chance.choice(["surplus", "missing", "behind quote", "not utf-8"])
        place = self.chance.randrange(len(fields))
        if kind == "behind quote":
            wrong = [b'"a\n,b"x', b'"a\n,b" ', b'"a\n,b"x"y', b'"a\n,b"x"y,"z"', b'"a\n,b"x""', b'""x']
            return [*fields[:place], self.chance.choice(wrong), *fields[place + 1 :]]
        if kind == "not utf-8":
            wrong = self.chance.choice([b'"a\r\n%s"', b"%s", b"a%sb"]) % self.chance.choice(NOT_UTF8)
            return [*fields[:place], wrong, *fields[place + 1 :]]
        if kind == "missing" and len(fields) > 1:
            return fields[: self.chance.randrange(1, len(fields))]
        return [*fields, *self.chance.choice([[STRANGER[0].encode()], [b""], [b"", b'""']])]
