"""Make deliveries of any volume for the sample shop: orders, payments, customers and products.

    python seeds/make_deliveries.py --days 10 --orders 1000000 --out deliveries

The small files in `seeds/landing` show every problem of a landing zone one at a time and are kept by hand. This script
is for volume: a long and quiet story with a few problems in it, namely duplicates, late files, payments before their
order, orders before their customer, deletes, customers who come and go, and rows for quarantine.

Every line is a function of its own number and of the arguments. So the same arguments always make the same bytes, and
nothing has to be remembered from one line to the next: memory does not grow with the volume.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

# One line in so many. Primes, so that none of them keeps in step with another or with the changes of an order.
LATE = 499
DUPLICATE = 211
BAD = 307
AWAY = 401

DAYS_LATE = 2
LINES_PER_FILE = 250_000

# Every order changes four times, this many days after it was placed. The shop is older than its first delivery by more
# than the longest delay, so the first that is heard of an order may be an update, as with any log of a running shop.
DELAYS = (0, 0.05, 1.2, 4)
DAYS_BEFORE = 5
DELETED = ""
LIVES = (
    [("placed", "paid", "shipped", "completed")] * 86
    + [("placed", "paid", "shipped", "returned")] * 6
    + [("placed", "placed", "paid", "shipped")] * 5  # the second change is to something that is not delivered
    + [("placed", "paid", "cancelled", DELETED)] * 3
)

# A bad row is a good one with another value at this place; one place past the end, it is a surplus value.
ORDER_FAULTS = [(0, "X"), (1, ""), (3, ""), (4, "lost"), (5, "0"), (6, "free"), (8, "yesterday"), (9, "1.5"), (10, "?")]
PAYMENT_FAULTS = [(0, ""), (1, ""), (2, "gift"), (3, "-1.00"), (4, "2026-02-30T00:00:00Z"), (5, "?")]
CUSTOMER_FAULTS = [(3, "XX"), (4, "unknown")]

COLUMNS = {
    "orders": "op,order_id,customer_id,product_id,status,quantity,unit_price,ordered_at,changed_at,change_no",
    "payments": "payment_id,order_id,kind,amount,paid_at",
    "customers": "customer_id,name,email,country_code,signed_up_at",
    "products": "product_id,product_name,category,list_price,as_of",
}

FIRST_NAMES = ["Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hal", "Ivy", "Jan", "Kim", "Lea", "Max", "Nia"]
LAST_NAMES = ["Sample", "Example", "Dummy", "Specimen", "Invented", "Fictional", "Placeholder", "Imaginary"]
COUNTRIES = ["AT", "BR", "CH", "DE", "DK", "ES", "FR", "GB", "IN", "IT", "JP", "KE", "NA", "NL", "PL", "SE", "US"]
CATEGORIES = ["paper", "writing", "kitchen", "travel", "light"]


class Shop:
    """What the shop's systems know, as functions of counters. Day 0 is the first delivery date."""

    def __init__(self, start: date, days: int, orders: int, customers: int, products: int, seed: int) -> None:
        self.days, self.orders, self.customers, self.products, self.seed = days, orders, customers, products, seed
        self.start = start
        self.dates = [self.date_of(day) for day in range(-DAYS_BEFORE, days)]
        # Formatting a time anew for every line would take longer than everything else about it.
        self.clock = [f"{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}" for s in range(86_400)]
        self.delays = [int(delay * orders / 4) for delay in DELAYS]
        self.prices = [100 + self.scatter(number) % 9_900 for number in range(products)]

    def scatter(self, number: int) -> int:
        """A number that looks random and is always the same."""
        mixed = (number + self.seed * 1_000_003 + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        return mixed ^ mixed >> 27

    def date_of(self, day: int) -> str:
        return (self.start + timedelta(days=day)).isoformat()

    def changes_of(self, day: int) -> range:
        """The numbers of a day's order changes."""
        return range((DAYS_BEFORE + day) * self.orders, (DAYS_BEFORE + day + 1) * self.orders)

    def moment(self, change: int) -> str:
        day, position = divmod(change, self.orders)
        return f"{self.dates[day]}T{self.clock[position * 86_400 // self.orders]}Z"

    def change(self, number: int) -> tuple[str, str]:
        """An order change, and the payment that comes with it or an empty text."""
        # Changes come in fours: one places a new order, the other three go on with older ones.
        four, step = divmod(number, 4)
        order = four - self.delays[step]
        luck = self.scatter(order)
        life = LIVES[luck % 100]
        status = life[step]
        changed_at = self.moment(number)
        if status == DELETED:
            return f"D,O{order:09},,,,,,,{changed_at},{number}\n", ""

        product = (luck >> 8) % self.products
        quantity = 1 + (luck >> 24) % 3
        cents = self.prices[product]
        line = (
            f"{'U' if step else 'I'},O{order:09},C{(luck >> 32) % self.customers:07},P{product:05},{status},{quantity},"
            f"{cents // 100}.{cents % 100:02},{self.moment(4 * order)},{changed_at},{number}\n"
        )
        # One order in four is paid by invoice, which this stream does not show.
        if status not in ("paid", "returned", "cancelled") or luck >> 60 < 4:
            return line, ""
        cents *= quantity
        kind = "charge" if status == "paid" else "refund"
        return line, f"PAY{number:09},O{order:09},{kind},{cents // 100}.{cents % 100:02},{changed_at}\n"

    def extract(self, day: int) -> Iterator[str]:
        """Every customer there is on a day."""
        for number in range(self.customers):
            luck = self.scatter(-number - 1)
            # One in ten signs up while deliveries come in, one in two hundred leaves, a few are away for a day.
            joins = luck % self.days if number % 10 == 9 else -1 - luck % 1000
            leaves = luck // 200 % self.days if luck % 200 == 0 else self.days
            if not joins <= day < leaves or (luck + day) % AWAY == 0:
                continue
            first = FIRST_NAMES[(luck >> 8) % len(FIRST_NAMES)]
            last = LAST_NAMES[((luck >> 16) + (luck + day) // 100) % len(LAST_NAMES)]
            country = COUNTRIES[((luck >> 24) + (luck + day) // 300) % len(COUNTRIES)]
            signed_up_at = f"{self.date_of(joins)}T{self.clock[luck % 86_400]}Z"
            email = f"{first}.{last}.{number}@example.org".lower()
            line = f"C{number:07},{first} {last},{email},{country},{signed_up_at}\n"
            # Here a bad row stands in for the good one: the customer is there, without a new version.
            yield spoil(line, CUSTOMER_FAULTS, luck) if (luck + day) % BAD == 0 else line
            if (luck + day) % DUPLICATE == 0:
                yield line

    def catalogue(self) -> Iterator[str]:
        as_of = f"{self.date_of(self.days - 1)}T23:00:00Z"
        for number, cents in enumerate(self.prices):
            category = CATEGORIES[number % len(CATEGORIES)]
            yield f"P{number:05},Product {number},{category},{cents // 100}.{cents % 100:02},{as_of}\n"


def spoil(line: str, faults: list[tuple[int, str]], luck: int) -> str:
    values = line.rstrip("\n").split(",")
    place, value = faults[luck % len(faults)]
    values[place : place + 1] = [value]
    return ",".join(values) + "\n"


@contextmanager
def delivery(out: Path, feed: str, *name: str) -> Iterator[Callable[[str], object]]:
    """A new file of a feed. It gets its name when it is whole, because a reader may look at any time."""
    path = out.joinpath(feed, *name)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".tmp")
    with open(unfinished, "w", encoding="utf-8", newline="\n", buffering=1 << 20) as file:
        file.write(COLUMNS[feed] + "\n")
        yield file.write
    os.replace(unfinished, path)


def deliver_day(out: Path, shop: Shop, day: int) -> None:
    changes = shop.changes_of(day)
    for first in range(0, shop.orders, LINES_PER_FILE):
        name = (shop.date_of(day), f"{first // LINES_PER_FILE + 1:04}.csv")
        with delivery(out, "orders", *name) as write_order, delivery(out, "payments", *name) as write_payment:
            for number in changes[first : first + LINES_PER_FILE]:
                order, payment = shop.change(number)
                # Payments are never late, so that some of them come before their order.
                if number % LATE:
                    write_order(order)
                write_payment(payment)
                if number % DUPLICATE == 0:
                    # Half a day later, so that half of the duplicates come under the next delivery date.
                    order_again, payment_again = shop.change(number - shop.orders // 2)
                    write_order(order_again)
                    write_payment(payment_again)
                if number % BAD == 0:
                    write_order(spoil(order, ORDER_FAULTS, shop.scatter(number)))
                    if payment:
                        write_payment(spoil(payment, PAYMENT_FAULTS, shop.scatter(number)))
    with delivery(out, "customers", shop.date_of(day), "0001.csv") as write_customer:
        for line in shop.extract(day):
            write_customer(line)


def deliver_late(out: Path, shop: Shop, day: int) -> None:
    """What was missing from a day's orders: a file that comes days later and carries that day's date all the same."""
    changes = shop.changes_of(day)
    with delivery(out, "orders", shop.date_of(day), "late.csv") as write_order:
        for number in changes[-changes.start % LATE :: LATE]:
            write_order(shop.change(number)[0])


def deliver(out: Path, shop: Shop) -> None:
    for day in range(shop.days + DAYS_LATE):
        if day < shop.days:
            deliver_day(out, shop, day)
        if day >= DAYS_LATE:
            deliver_late(out, shop, day - DAYS_LATE)
    with delivery(out, "products", "current.csv") as write_product:
        for line in shop.catalogue():
            write_product(line)


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def calendar_date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as 2026-01-31") from None


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Make deliveries of any volume for the sample shop.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="landing directory to make; must be new or empty")
    parser.add_argument("--days", type=count, default=10, help="delivery dates")
    parser.add_argument("--orders", type=count, default=1_000, help="order changes a day; payments are a fifth of that")
    parser.add_argument("--customers", type=count, default=500, help="customers; all of them are delivered every day")
    parser.add_argument("--products", type=count, default=50, help="products")
    parser.add_argument("--seed", type=int, default=1, help="another seed makes another story")
    parser.add_argument("--start", type=calendar_date, default=date(2026, 1, 1), help="first delivery date")
    arguments = vars(parser.parse_args())
    out = arguments.pop("out")
    first_day = arguments["start"].toordinal()
    if first_day < date(1910, 1, 1).toordinal() or first_day + arguments["days"] > date(2999, 12, 31).toordinal():
        parser.error("the delivery dates have to lie in the years 1910 to 2999")
    try:
        if out.exists() and any(out.iterdir()):
            sys.exit(f"{out} is not empty, and deliveries are only ever made in a new or empty directory.")
        deliver(out, Shop(**arguments))
    except OSError as error:
        sys.exit(f"The deliveries could not be written: {error}")


if __name__ == "__main__":
    main()
