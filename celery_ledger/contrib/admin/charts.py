"""Line charts as SVG, drawn on the server: they need no script, and no style that a content security policy forbids."""

from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Final

from django.utils.safestring import SafeString, mark_safe

WIDTH: Final = 320  # pixels
HEIGHT: Final = 96
BASE: Final = HEIGHT - 16
TOP: Final = 16
#: A line is interrupted where there are no figures for this many seconds.
GAP: Final = 180


def line(title: str, values: Sequence[tuple[datetime, float | None]], *, unit: str = "") -> SafeString:
    """Return a chart of ``values``, oldest first, from zero to the highest; None is a gap."""
    known = [value for _, value in values if value is not None]
    highest = max(known, default=0.0)
    latest = f"{known[-1]:g}{unit}" if known else "no figures"
    label = f"{title}: {latest}, at most {highest:g}{unit}"
    return mark_safe(  # noqa: S308 - numbers, and text that is escaped
        f'<svg class="chart" role="img" aria-label="{escape(label)}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}"><title>{escape(label)}</title>'
        f'<text x="0" y="11" class="chart-title">{escape(title)}: {escape(latest)}</text>'
        f'<text x="{WIDTH}" y="11" text-anchor="end" class="chart-note">{highest:g}{escape(unit)}</text>'
        f'<line x1="0" y1="{BASE}" x2="{WIDTH}" y2="{BASE}" class="chart-base"/>'
        f"{''.join(_strokes(values, highest))}{_times(values)}</svg>"
    )


def _strokes(values: Sequence[tuple[datetime, float | None]], highest: float) -> list[str]:
    """Return a line for each run of values without a gap."""
    if len(values) < 2:
        return []
    start, span = values[0][0], max(1.0, (values[-1][0] - values[0][0]).total_seconds())
    stretches: list[list[str]] = [[]]
    before: datetime | None = None
    for at, value in values:
        if value is None or (before is not None and (at - before).total_seconds() > GAP):
            stretches.append([])
        if value is not None:
            x = (at - start).total_seconds() / span * WIDTH
            y = BASE - (value / highest if highest else 0) * (BASE - TOP)
            stretches[-1].append(f"{x:.1f},{y:.1f}")
        before = at
    return [f'<polyline class="chart-line" fill="none" points="{" ".join(points)}"/>' for points in stretches if points]


def _times(values: Sequence[tuple[datetime, float | None]]) -> str:
    if not values:
        return ""
    first, last = values[0][0], values[-1][0]
    return (
        f'<text x="0" y="{HEIGHT - 3}" class="chart-note">{first:%H:%M}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT - 3}" text-anchor="end" class="chart-note">{last:%H:%M} UTC</text>'
    )
