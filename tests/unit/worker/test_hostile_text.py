"""What clients write makes no lines in logs and no formulas in tables."""

import csv
import io
import logging
from datetime import date
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from analytics_app.report import FORMULA_SIGNS, Report, as_csv
from worker.logs import UNSAFE, LineFormatter

#: Anything, and often what means something to somebody.
HOSTILE = st.text() | st.lists(
    st.sampled_from(["\r\n", "\n", "\x1b[2K", "\u2028", "\u202e", "=", "+", "@", '"', ",", "a"])
).map("".join)


@given(HOSTILE, HOSTILE)
def test_a_log_message_is_one_line_without_control_characters(text, name):
    record = logging.LogRecord(name, logging.INFO, "", 0, "somebody sent %s", (text,), None)

    line = LineFormatter("%(levelname)s %(name)s: %(message)s").format(record)

    assert len(line.splitlines()) == 1
    assert not UNSAFE.search(line)
    if not UNSAFE.search(text + name):
        assert line == f"INFO {name}: somebody sent {text}"


def test_a_traceback_keeps_its_lines():
    try:
        raise ValueError("broken")
    except ValueError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, "", 0, "it\nfailed", (), (type(error), error, error.__traceback__)
        )

    lines = LineFormatter("%(message)s").format(record).splitlines()

    assert lines[0] == "it\\nfailed"
    assert lines[-1] == "ValueError: broken"


@given(st.lists(st.tuples(HOSTILE, HOSTILE), max_size=3))
def test_a_table_has_a_cell_for_each_value_and_none_is_a_formula(products):
    rows = [
        {"sku": sku, "title": title, "orders": 1, "units": 2, "revenue": Decimal("-1.50"), "currency": "GBP"}
        for sku, title in products
    ]
    text = as_csv(Report(day=date(2030, 1, 2), totals=[], products=rows, revenues=[], currency=""))

    table = list(csv.reader(io.StringIO(text, newline="")))

    assert [len(row) for row in table] == [7] * (1 + len(products))
    assert not [cell for row in table for cell in row if cell.startswith(FORMULA_SIGNS)]
    assert [row[2].removeprefix("'") for row in table[1:]] == [title.removeprefix("'") for _, title in products]
