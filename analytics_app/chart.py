"""A chart of revenue by day for mail programs: PNG, at twice the size for high-resolution screens."""

import io
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Final

WIDTH: Final = 1040  # pixels
HEIGHT: Final = 388
MARGIN: Final = 4
#: Room for the days under the bars, and above the highest bar.
BELOW, ABOVE = 52, 4
PAPER, INK, SOFT, BAR, TODAY = "#ffffff", "#1c2430", "#5d6979", "#b9cbf2", "#2458d3"


def draw(revenues: Sequence[tuple[date, Decimal]]) -> bytes:
    """Return a PNG with one bar for each day; the last one, the day of the report, is highlighted."""
    from PIL import Image, ImageDraw, ImageFont  # Only one process draws it, once a day.

    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    pen = ImageDraw.Draw(image)
    small = ImageFont.load_default(21)
    highest = max((revenue for _, revenue in revenues), default=Decimal(0))
    floor, room = HEIGHT - BELOW, HEIGHT - BELOW - ABOVE
    step = (WIDTH - 2 * MARGIN) / max(1, len(revenues))
    for number, (day, revenue) in enumerate(revenues):
        left = MARGIN + number * step
        height = float(revenue / highest) * room if highest else 0.0
        is_last = number == len(revenues) - 1
        if height:
            bar = (left + step * 0.16, floor - max(2.0, height), left + step * 0.84, floor)
            pen.rounded_rectangle(bar, radius=4, fill=TODAY if is_last else BAR, corners=(True, True, False, False))
        pen.text((left + step / 2, floor + 26), f"{day:%d/%m}", fill=INK if is_last else SOFT, font=small, anchor="mm")
    pen.line((MARGIN, floor, WIDTH - MARGIN, floor), fill=SOFT, width=2)
    target = io.BytesIO()
    image.save(target, "PNG", optimize=True)
    return target.getvalue()
