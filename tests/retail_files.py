"""Small made-up shop exports."""

import gzip
from pathlib import Path

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"


def line(
    invoice="900001",
    sku="10001",
    description="BLUE TEAPOT",
    quantity=1,
    price="2.50",
    customer="70001",
    country="Norway",
    date="2010-12-01T08:26",
):
    return f"{invoice},{sku},{description},{quantity},{date},{price},{customer},{country}"


def content(*lines):
    return "".join(f"{each}\n" for each in (HEADER, *lines)).encode()


def write(path: Path, *lines) -> Path:
    raw = content(*lines)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path
