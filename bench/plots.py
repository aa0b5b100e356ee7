"""The results as SVG, written by hand: bars for contenders, lines for growth."""

import math
from html import escape
from typing import Any

from bench import contenders, summary

BAR, GAP, LABEL, WIDTH = 18, 6, 330, 860  # pixels
OURS, THEIRS = "#1f6f8b", "#b8b8b8"
BARS = {
    "order_p50_ms": "An order with its three tasks, p50, ms (less is better)",
    "drain_effects_per_s": "Draining a backlog with two workers, effects/s (log scale)",
    "live_effects_per_s": "Producer and workers sharing the machine, effects/s",
    "live_cpu_s_per_1k": "CPU of all processes and the database, s per 1,000 orders (less is better)",
    "lag_p50_ms": "From commit to last effect when idle, p50, ms (less is better)",
    "load_lag_p50_ms": "The same at 100 orders/s, p50, ms (log scale, less is better)",
}
LOGARITHMIC = {"drain_effects_per_s", "load_lag_p50_ms"}
GROWTH = {"order_p50_ms": "order p50, ms", "claim_p50_ms": "claim p50, ms", "drain_effects_per_s": "drain, effects/s"}


def all_plots(results: dict[str, Any]) -> dict[str, str]:
    """Return each plot's name and SVG."""
    plots = {}
    if results["rounds"]:
        for figure, title in BARS.items():
            found = {name: summary.over_rounds(results, name, figure) for name in summary.contenders_in(results)}
            plots[figure] = bars(title, {name: value for name, value in found.items() if value}, figure in LOGARITHMIC)
    for figure, title in GROWTH.items() if results.get("growth") else ():
        plots[f"growth_{figure}"] = lines(title, results["growth"], figure)
    return plots


def bars(title: str, values: dict[str, summary.Spread], logarithmic: bool) -> str:
    """Draw a bar for each contender, with a line from its minimum to its maximum."""
    most = max((value.most for value in values.values()), default=1) or 1
    least = min((value.least for value in values.values()), default=0)
    room = WIDTH - LABEL - 90

    def at(value: float) -> float:
        if logarithmic:
            bottom = max(least, 1e-3) / 2
            return room * math.log(max(value, bottom) / bottom) / math.log(most / bottom)
        return room * value / most

    drawn = []
    for number, (name, value) in enumerate(values.items()):
        y = 34 + number * (BAR + GAP)
        end = LABEL + at(value.median)
        colour = OURS if name.startswith("shopwire") else THEIRS
        whisker = f"M{LABEL + at(value.least):.1f} {y + BAR / 2} H{LABEL + at(value.most):.1f}"
        drawn += [
            _text(LABEL - 8, y + 13, contenders.load(name).title, "end"),
            f'<rect x="{LABEL}" y="{y}" width="{at(value.median):.1f}" height="{BAR}" fill="{colour}"/>',
            f'<path d="{whisker}" stroke="#222"/>',
            _text(max(end, LABEL + at(value.most)) + 6, y + 13, f"{value.median:.4g}"),
        ]
    return _svg(title, 34 + len(values) * (BAR + GAP) + 8, drawn)


def lines(title: str, points: list[dict[str, Any]], figure: str) -> str:
    """Draw a figure over the rows in the ledger, from zero up; rows on a log scale."""
    height, bottom = 300, 260
    most = max(point[figure] for point in points) or 1
    sizes = sorted({point["rows"] for point in points})
    left, right = 70, WIDTH - 170
    drawn = [
        f'<path d="M{left} 40 V{bottom} H{right}" stroke="#222" fill="none"/>',
        _text(left - 8, 50, f"{most:.4g}", "end"),
    ]

    def x(rows: int) -> float:
        span = math.log(sizes[-1] / sizes[0]) or 1
        return left + (right - left) * math.log(rows / sizes[0]) / span

    drawn += [_text(x(rows), bottom + 18, f"{rows:,}", "middle") for rows in sizes]
    for status, colour in (("pending", OURS), ("succeeded", "#c06014")):
        mine = [
            (x(point["rows"]), bottom - 210 * point[figure] / most) for point in points if point["status"] == status
        ]
        if mine:
            path = " L".join(f"{a:.1f} {b:.1f}" for a, b in mine)
            drawn.append(f'<path d="M{path}" stroke="{colour}" stroke-width="2" fill="none"/>')
            drawn.append(_text(right + 8, mine[-1][1] + 4, "rows pending" if status == "pending" else "rows kept"))
    return _svg(f"Shopwire with a growing ledger: {title}", height, drawn)


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, height: int, drawn: list[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            f'<text x="8" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
            *drawn,
            "</svg>\n",
        ]
    )
