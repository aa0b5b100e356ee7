"""What is ordered, and the statement that reserves it; shared with the floors, so free of Django."""

import random
from collections.abc import Iterator

from bench.size import LINES, PRODUCTS

Cart = dict[int, int]  # product id to quantity

#: The shop's own statement: all lines at once, locking in product order.
RESERVE = """
    WITH wanted AS (SELECT * FROM unnest(%s::bigint[], %s::bigint[]) AS pair(product_id, n)),
    locked AS (
        SELECT stock.product_id FROM bench_stock AS stock JOIN wanted USING (product_id)
        ORDER BY stock.product_id FOR NO KEY UPDATE OF stock
    )
    UPDATE bench_stock SET reserved = reserved + wanted.n FROM wanted JOIN locked USING (product_id)
    WHERE bench_stock.product_id = wanted.product_id AND on_hand - reserved >= wanted.n
    RETURNING bench_stock.product_id
"""


def carts(seed: int) -> Iterator[Cart]:
    """Yield carts of three products endlessly, the same ones for the same seed."""
    generator = random.Random(seed)
    while True:
        products = generator.sample(range(1, PRODUCTS + 1), LINES)
        yield {product_id: generator.randint(1, 5) for product_id in products}
