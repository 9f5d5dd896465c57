"""The rules of the platform as plain Python: what its tables hold, given what has been delivered.

`Reference(seeds).build(landing)` stands for one build of the platform. It shares no code and no SQL with the platform,
so that a rule which either side has wrong shows as a difference between the two. Read it top down: values, files, what
a build remembers, valid rows, the tables.
"""

import gzip
import re
import shutil
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

FEEDS = {  # the columns of each feed, its key first
    feed: columns.split()
    for feed, columns in {
        "orders": "order_id op customer_id product_id status quantity unit_price ordered_at changed_at change_no",
        "payments": "payment_id order_id kind amount paid_at",
        "customers": "customer_id name email country_code signed_up_at",
        "products": "product_id product_name category list_price as_of",
        "erasures": "customer_id requested_at",
        "retractions": "batch_id retracted_at reason",
    }.items()
}
RETRACTABLE = ("orders", "payments", "customers")
PRODUCTS_FILE = "products/current.csv"

# Between two different rows of one order with equal changed_at and change_no any choice by values is right. This is the
# choice made here: the row that is greatest in these columns, in this order; a row with op D counts by its op alone.
ORDER_TIE = ["op", "customer_id", "product_id", "status", "quantity", "unit_price", "ordered_at"]

Text = dict[str, str | None]  # a data line as delivered: every column of its feed, an empty value is None
Row = dict[str, Any]  # a row with values of their types
ZERO = Decimal("0.00")


class Unreadable(Exception):
    """The file cannot be read at all."""


def feed_of(batch_id: str) -> str:
    return batch_id.split("/")[0]


class Line(NamedTuple):
    """One data line of a batch. A malformed line has no values."""

    batch_id: str
    row_no: int  # 1 for the first data line
    text: Text
    row: Row
    reasons: list[str]  # why it is quarantined, in alphabetical order; none if it is valid

    @property
    def feed(self) -> str:
        return feed_of(self.batch_id)


# --- values: None where the text is no such value ---------------------------------------------------------------------

WHOLE = re.compile(r"-?[0-9]{1,18}")
MONEY = re.compile(r"-?[0-9]{1,10}(\.[0-9]{1,2})?")
TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:Z|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))?"
)


def whole(text: str) -> int | None:
    return int(text) if WHOLE.fullmatch(text) else None


def money(text: str) -> Decimal | None:
    return Decimal(text) + ZERO if MONEY.fullmatch(text) else None  # the sum has two places, and no -0.00


def timestamp(text: str) -> datetime | None:
    """The instant as a naive datetime in UTC, cut off at microseconds."""
    match = TIMESTAMP.fullmatch(text)
    if not match or not 1900 <= int(match[1]) <= 2999:
        return None
    microseconds = int((match[7] or "")[:6].ljust(6, "0"))
    try:
        written = datetime(*(int(part) for part in match.groups()[:6]), microseconds)
    except ValueError:  # month 13, 30 February, hour 24, second 60
        return None
    offset = timedelta(hours=int(match[9] or 0), minutes=int(match[10] or 0))
    return written + offset if match[8] == "-" else written - offset


TYPES = {
    **dict.fromkeys(("quantity", "change_no"), whole),
    **dict.fromkeys(("unit_price", "amount", "list_price"), money),
    **dict.fromkeys(("ordered_at", "changed_at", "paid_at", "signed_up_at", "as_of"), timestamp),
}


def typed(line: Text) -> Row:
    return {column: text and TYPES.get(column, str)(text) for column, text in line.items()}


# --- files ------------------------------------------------------------------------------------------------------------

DELIVERY = re.compile(r"([a-z]+)/([0-9]{4}-[0-9]{2}-[0-9]{2})/[^._/][^/]*\.(csv|csv\.gz|parquet)", re.DOTALL)


def is_delivery(batch_id: str) -> bool:
    match = DELIVERY.fullmatch(batch_id)
    if not match or match[1] not in FEEDS or match[1] == "products":
        return batch_id == PRODUCTS_FILE
    try:
        return bool(date.fromisoformat(match[2]))
    except ValueError:
        return False


def records(text: str) -> Iterator[tuple[list[str], bool]]:
    """RFC 4180 records as (values, well formed), empty lines left out."""
    values: list[str] = []
    value, state, sound = "", "start", True  # states: start of a value, plain, quoted, closed (behind a second quote)
    for char in text:
        if "\udc80" <= char <= "\udcff":  # what the error handler "surrogateescape" makes of a byte that is not UTF-8
            sound = False
        if state == "quoted":
            value, state = (value, "closed") if char == '"' else (value + char, "quoted")
        elif char == ",":
            values, value, state = [*values, value], "", "start"
        elif char in "\r\n":  # CRLF is the end of a record and an empty line
            if values or state != "start":
                yield [*values, value], sound
            values, value, state, sound = [], "", "start", True
        elif char == '"' and state == "start":
            state = "quoted"
        elif char == '"' and state == "closed":  # a doubled quote
            value, state = value + char, "quoted"
        else:
            sound = sound and state != "closed"
            value, state = value + char, "plain"
    if values or state != "start":
        yield [*values, value], sound and state != "quoted"


def read_csv(content: bytes) -> list[Text | None]:
    """The data lines with the columns of the header; None is a malformed line."""
    if not content:
        return []
    (header, sound), *lines = list(records(content.decode("utf-8-sig", "surrogateescape"))) or [([], False)]
    if not sound or len(set(header)) < len(header):
        raise Unreadable
    return [
        dict(zip(header, values, strict=True)) if ok and len(values) == len(header) else None for values, ok in lines
    ]


def read_parquet(path: Path) -> list[Text]:
    if not path.stat().st_size:
        return []
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        # Under a name of its own: DuckDB takes `*`, `[` and `key=value` in a path for patterns.
        copy = str(shutil.copy(path, Path(folder) / "file.parquet"))
        try:
            relation = connection.read_parquet(copy)
            # The relation's own names will not do: it renames columns that differ in case alone.
            schema = connection.table_function("parquet_schema", [copy]).project("name").fetchall()
            names = [name for (name,) in schema[1:]]
            if {str(kind) for kind in relation.types} != {"VARCHAR"} or len(set(names)) < len(names):
                raise Unreadable
            return [dict(zip(names, values, strict=True)) for values in relation.fetchall()]
        except duckdb.Error as error:
            raise Unreadable from error


def read(feed: str, path: Path) -> list[Text | None]:
    """The data lines of a file with the columns of its feed; None is a malformed line."""
    try:
        if path.name.endswith(".parquet"):
            lines = read_parquet(path)
        else:
            content = path.read_bytes()
            lines = read_csv(gzip.decompress(content) if path.name.endswith(".gz") else content)
    except (EOFError, OSError, zlib.error) as error:  # what gzip raises for a truncated or corrupt file
        raise Unreadable from error
    return [line and {column: line.get(column) or None for column in FEEDS[feed]} for line in lines]


# --- versions ---------------------------------------------------------------------------------------------------------


def versions(timeline: Iterable[tuple[Any, tuple | None]]) -> list[tuple[tuple, Any, Any]]:
    """(values, valid_from, valid_to) from (moment, values) in order of time; values None: absent at that moment."""
    found: list[tuple[tuple, Any, Any]] = []
    for moment, values in timeline:
        holding, begin, end = found[-1] if found else (None, None, None)
        if end is None and values == holding:
            continue
        if holding is not None and end is None:
            found[-1] = (holding, begin, moment)
        if values is not None:
            found.append((values, moment, None))
    return found


# --- the platform -----------------------------------------------------------------------------------------------------


class Reference:
    """Holds all that a platform has to remember between builds; everything else is computed anew at every build.

    After a build `unreadable` lists the batch ids of new files that could not be read, and `products_not_applied` says
    why the newest products content that was loaded is no part of the products' history (None if it is).
    """

    def __init__(self, seeds: Path) -> None:
        countries = read_csv((seeds / "countries.csv").read_bytes())
        statuses = read_csv((seeds / "order_statuses.csv").read_bytes())
        self.countries = {row["country_code"]: row for row in countries if row}
        self.is_revenue = {row["status"]: row["is_revenue"].lower() == "true" for row in statuses if row}
        # The newest content loaded, by batch id: the file's size and modification time (ns), and its data lines.
        self.batches: dict[str, tuple[tuple[int, int], list[Text | None]]] = {}
        self.erased: set[str] = set()  # a request counts for good once a build saw it
        # The products' history is what builds saw: as_of of each applied file, and its values by product_id.
        self.products: list[tuple[datetime, dict[str, tuple]]] = []
        self.products_not_applied: str | None = None
        self.unreadable: list[str] = []

    def build(self, landing: Path) -> dict[str, list[Row]]:
        """The eight tables of `marts` after a build, rows in no particular order.

        Values are str, int, bool, None, Decimal (two places), date, or naive datetime in UTC.
        """
        self._load(landing)
        delivered = [
            Line(batch_id, row_no, text or {}, row := typed(text or {}), self._reasons(feed_of(batch_id), row))
            for batch_id, (_, lines) in sorted(self.batches.items())
            for row_no, text in enumerate(lines, start=1)
            if batch_id != PRODUCTS_FILE
        ]
        valid = [line for line in delivered if not line.reasons]
        self.erased |= {line.row["customer_id"] for line in valid if line.feed == "erasures"}
        # Only what may be retracted, so that no retraction takes back an erasure or another retraction.
        retracted = {line.row["batch_id"] for line in valid if line.feed == "retractions"}
        retracted = {batch_id for batch_id in retracted if feed_of(batch_id) in RETRACTABLE}
        live = [line for line in delivered if line.batch_id not in retracted]
        valid = [line for line in live if not line.reasons]

        customers, customers_history = self._customers([line for line in live if line.feed == "customers"])
        orders = self._orders([line.row for line in valid if line.feed == "orders"], customers)
        payments = self._payments([line.row for line in valid if line.feed == "payments"], orders)
        return {
            "dim_customers": list(customers.values()),
            "dim_customers_history": customers_history,
            "dim_products_history": self._products_history(),
            "fct_orders": list(orders.values()),
            "fct_payments": payments,
            "fct_daily_revenue": self._daily_revenue(orders.values(), customers),
            "quarantine": self._quarantine(live),
            "landing_audit": self._landing_audit(live, retracted),
        }

    def _load(self, landing: Path) -> None:
        """Take in new and changed files; one that cannot be read holds back all new files of its feed."""
        self.unreadable = []
        new: dict[str, dict[str, Any]] = {feed: {} for feed in FEEDS}
        for path in sorted([*landing.glob("*/*"), *landing.glob("*/*/*")]):
            batch_id = path.relative_to(landing).as_posix()
            if not is_delivery(batch_id) or not path.is_file():
                continue
            feed, stamp = feed_of(batch_id), (path.stat().st_size, path.stat().st_mtime_ns)
            if batch_id in self.batches and self.batches[batch_id][0] == stamp:
                continue
            try:
                new[feed][batch_id] = (stamp, read(feed, path))
            except Unreadable:
                self.unreadable.append(batch_id)
        stopped = {feed_of(batch_id) for batch_id in self.unreadable}
        for feed in FEEDS.keys() - stopped:
            self.batches |= new[feed]
        if new["products"] and "products" not in stopped:
            self._apply_products(self.batches[PRODUCTS_FILE][1])

    def _apply_products(self, lines: list[Text | None]) -> None:
        rows = [typed(line) for line in lines if line]
        ids = [row["product_id"] for row in rows]
        moments = list({row["as_of"] for row in rows})
        refusals = {
            "malformed line": None in lines,
            "no rows": not lines,
            "empty product_id": None in ids,
            "repeated product_id": len(set(ids)) < len(ids),
            "as_of is no timestamp": None in moments,
            "as_of is not the same on every row": len(moments) > 1,
        }
        found = [reason for reason, applies in refusals.items() if applies]
        if not found and self.products and moments[0] <= self.products[-1][0]:
            found = ["as_of is not newer than that of the last file applied"]
        self.products_not_applied = ", ".join(found) or None
        if not found:
            values = {row["product_id"]: (row["product_name"], row["category"], row["list_price"]) for row in rows}
            self.products.append((moments[0], values))

    def _reasons(self, feed: str, row: Row) -> list[str]:
        if not row:
            return ["malformed_line"]
        rules = {"missing_key": row[FEEDS[feed][0]] is None}
        if feed == "orders":
            rules |= {
                "bad_op": row["op"] not in ("I", "U", "D"),
                "bad_timestamp": row["changed_at"] is None,
                "bad_change_no": row["change_no"] is None,
            }
        if feed == "orders" and row["op"] != "D":  # a bad op is checked as an I or U would be
            rules |= {
                "bad_timestamp": None in (row["changed_at"], row["ordered_at"]),
                "missing_reference": None in (row["customer_id"], row["product_id"]),
                "unknown_status": row["status"] not in self.is_revenue,
                "bad_quantity": row["quantity"] is None or not 1 <= row["quantity"] <= 999999,
                "bad_amount": row["unit_price"] is None or row["unit_price"] < 0,
            }
        if feed == "payments":
            rules |= {
                "bad_timestamp": row["paid_at"] is None,
                "missing_reference": row["order_id"] is None,
                "bad_kind": row["kind"] not in ("charge", "refund"),
                "bad_amount": row["amount"] is None or row["amount"] <= 0,
            }
        if feed == "customers":
            rules |= {
                "bad_timestamp": row["signed_up_at"] is None,
                "unknown_country": row["country_code"] not in self.countries,
            }
        return sorted(reason for reason, applies in rules.items() if applies)

    def _customers(self, lines: list[Line]) -> tuple[dict[str, Row], list[Row]]:
        """dim_customers by customer_id, and dim_customers_history."""
        # Date → customer present in that date's extract → its valid lines, perhaps none. A date none of whose lines has
        # a customer_id gets no entry: it does not count as an extract.
        extracts: dict[date, dict[str, list[Line]]] = defaultdict(lambda: defaultdict(list))
        for line in lines:
            if line.text.get("customer_id"):
                day = date.fromisoformat(line.batch_id.split("/")[1])
                extracts[day][line.text["customer_id"]] += [] if line.reasons else [line]
        days = sorted(extracts)

        dimension, history = {}, []
        for customer_id in {customer_id for extract in extracts.values() for customer_id in extract}:
            columns = ["country_code"] if customer_id in self.erased else ["name", "email", "country_code"]
            chosen = {  # by date; of several valid lines the greatest as text by code point
                day: max(
                    extract[customer_id], key=lambda line: [line.text[c] or "" for c in (*columns, "signed_up_at")]
                )
                for day, extract in extracts.items()
                if extract.get(customer_id)
            }
            if not chosen:
                continue
            present_on = [day for day in days if customer_id in extracts[day]]
            latest = chosen[max(chosen)].row
            no_personal = {"name": None, "email": None}
            dimension[customer_id] = {
                "customer_id": customer_id,
                **no_personal,
                **{column: latest[column] for column in columns},
                "country_name": self.countries[latest["country_code"]]["country_name"],
                "region": self.countries[latest["country_code"]]["region"],
                "signed_up_at": latest["signed_up_at"],
                "is_erased": customer_id in self.erased,
                "is_deleted": present_on[-1] != days[-1],
                "first_seen_on": min(chosen),
                "last_seen_on": present_on[-1],
            }
            # A day with nothing but quarantined lines of the customer is left out: it begins and ends no version.
            timeline = [
                (day, tuple(chosen[day].row[column] for column in columns) if day in chosen else None)
                for day in days
                if day in chosen or day not in present_on
            ]
            for values, begin, end in versions(timeline):
                version = {"customer_id": customer_id, **no_personal, **dict(zip(columns, values, strict=True))}
                history.append({**version, "valid_from": begin, "valid_to": end})
        return dimension, history

    def _products_history(self) -> list[Row]:
        columns = ("product_id", "product_name", "category", "list_price", "valid_from", "valid_to")
        return [
            dict(zip(columns, (product_id, *values, begin, end), strict=True))
            for product_id in {product_id for _, products in self.products for product_id in products}
            for values, begin, end in versions((as_of, products.get(product_id)) for as_of, products in self.products)
        ]

    def _orders(self, rows: list[Row], customers: dict[str, Row]) -> dict[str, Row]:
        """fct_orders by order_id, still without what its payments say."""

        def rank(row: Row) -> list:
            tie = ["op"] if row["op"] == "D" else ORDER_TIE
            return [row[column] for column in ("changed_at", "change_no", *tie)]

        newest = {row["order_id"]: row for row in sorted(rows, key=rank)}  # the last of an order is its greatest
        columns = ("order_id", "customer_id", "product_id", "status", "quantity", "unit_price", "ordered_at")
        return {
            order_id: {
                **{column: row[column] for column in columns},
                "is_customer_known": row["customer_id"] in customers,
                "is_revenue": self.is_revenue[row["status"]],
                "ordered_on": row["ordered_at"].date(),
                "order_amount": row["quantity"] * row["unit_price"],
            }
            for order_id, row in newest.items()
            if row["op"] != "D"
        }

    def _payments(self, rows: list[Row], orders: dict[str, Row]) -> list[Row]:
        """fct_payments; adds paid_amount and open_amount to the orders."""
        rank = ("paid_at", "amount", "order_id", "kind")
        newest = {row["payment_id"]: row for row in sorted(rows, key=lambda row: [row[column] for column in rank])}
        payments = []
        for row in newest.values():
            signed_amount = row["amount"] if row["kind"] == "charge" else -row["amount"]
            payments.append({**row, "signed_amount": signed_amount, "is_order_known": row["order_id"] in orders})
        for order_id, order in orders.items():
            order["paid_amount"] = sum((row["signed_amount"] for row in payments if row["order_id"] == order_id), ZERO)
            order["open_amount"] = order["order_amount"] - order["paid_amount"]
        return payments

    def _daily_revenue(self, orders: Iterable[Row], customers: dict[str, Row]) -> list[Row]:
        groups = defaultdict(list)
        for order in orders:
            country = customers[order["customer_id"]]["country_code"] if order["is_customer_known"] else "unknown"
            groups[order["ordered_on"], country].append(order)
        return [
            {
                "ordered_on": ordered_on,
                "country_code": country,
                "orders": len(group),
                "revenue": sum((order["order_amount"] for order in group if order["is_revenue"]), ZERO),
                "paid_amount": sum((order["paid_amount"] for order in group), ZERO),
            }
            for (ordered_on, country), group in groups.items()
        ]

    def _quarantine(self, live: list[Line]) -> list[Row]:
        return [
            {"feed": line.feed, "batch_id": line.batch_id, "reasons": ",".join(line.reasons), "row_no": line.row_no}
            for line in live
            if line.reasons
        ]

    def _landing_audit(self, live: list[Line], retracted: set[str]) -> list[Row]:
        return [
            {
                "feed": feed_of(batch_id),
                "batch_id": batch_id,
                "status": "retracted" if batch_id in retracted else "live",
                "delivered_rows": len(lines),
                "valid_rows": sum(line.batch_id == batch_id and not line.reasons for line in live),
                "quarantined_rows": sum(line.batch_id == batch_id and bool(line.reasons) for line in live),
            }
            for batch_id, (_, lines) in self.batches.items()
            if feed_of(batch_id) in RETRACTABLE
        ]
