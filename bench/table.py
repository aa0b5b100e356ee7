"""The results as Markdown."""

from typing import Any

from bench import contenders, summary

FIGURES = {
    "order_p50_ms": "order p50, ms",
    "order_p99_ms": "order p99, ms",
    "orders_per_s": "orders/s",
    "producer_cpu_s_per_1k": "producer CPU, s/1k orders",
    "drain_effects_per_s": "drain, effects/s",
    "live_effects_per_s": "live, effects/s",
    "live_cpu_s_per_1k": "all CPU live, s/1k orders",
    "lag_p50_ms": "idle lag p50, ms",
    "lag_p99_ms": "idle lag p99, ms",
    "load_lag_p50_ms": "lag p50 at 100 orders/s, ms",
    "load_lag_p99_ms": "lag p99 at 100 orders/s, ms",
}
ROLES = ("producer", "relay", "workers", "postgresql", "redis")


def markdown(results: dict[str, Any]) -> str:
    """Return the whole page."""
    parts = [_head(results)]
    if results["rounds"]:
        parts += [_medians(results), *(_ratios(results, name) for name in summary.REFERENCES), _cpu(results)]
        parts += [_memory(results), _exactness(results)]
    if results.get("floors"):
        parts.append(_floors(results))
    if results.get("growth"):
        parts.append(_growth(results))
    if results.get("broker_away"):
        parts.append(_broker_away(results))
    return "\n".join(part for part in parts if part)


def _head(results: dict[str, Any]) -> str:
    hardware, versions = results["hardware"], results["versions"]
    return (
        f"# Bench of {results['when'][:10]}, commit {results['commit']}\n\n"
        f"{len(results['rounds'])} rounds, contenders in a new order each. {hardware['cpu']}, "
        f"{hardware['cores']} cores, {hardware['memory_mb']} MB; load average "
        f"{results['load_average_before']:.1f} before and {results['load_average_after']:.1f} after.\n"
        f"{', '.join(f'{name} {number}' for name, number in versions.items())}; "
        f"{', '.join(f'{name} = {value}' for name, value in results['postgresql_settings'].items())}.\n"
    )


def _medians(results: dict[str, Any]) -> str:
    rows = [
        [_title(name), *(_cell(summary.over_rounds(results, name, figure)) for figure in FIGURES)]
        for name in summary.contenders_in(results)
    ]
    return "## Median of the rounds (least..most)\n\n" + _table(["", *FIGURES.values()], rows)


def _ratios(results: dict[str, Any], reference: str) -> str:
    names = summary.contenders_in(results)
    if reference not in names:
        return ""
    rows = [
        [_title(name), *(_cell(summary.ratio(results, name, reference, figure)) for figure in FIGURES)]
        for name in names
        if name != reference
    ]
    return f"## Ratio to {_title(reference)}, within each round: median (least..most)\n\n" + _table(
        ["", *FIGURES.values()], rows
    )


def _cpu(results: dict[str, Any]) -> str:
    rows = [
        [
            _title(name),
            *(_median(results, name, f"live_{role}_cpu_s_per_1k") for role in ROLES),
            *(_median(results, name, f"idle_{role}_cpu_ms_per_s") for role in ("relay", "workers", "postgresql")),
        ]
        for name in summary.contenders_in(results)
    ]
    head = ["", *(f"{role}, live" for role in ROLES), "relay, idle", "workers, idle", "postgresql, idle"]
    others = any(turn.get("sessions_of_others") for round in results["rounds"] for turn in round.values())
    warning = (
        "**PostgreSQL served others meanwhile: its CPU time, and all CPU, is partly theirs.**\n\n" if others else ""
    )
    return f"## CPU: seconds per 1,000 orders live, milliseconds per second idle\n\n{warning}" + _table(head, rows)


def _memory(results: dict[str, Any]) -> str:
    rows = [
        [_title(name), *(_median(results, name, f"{role}_memory_mb") for role in ("producer", "relay", "workers"))]
        for name in summary.contenders_in(results)
    ]
    return "## Memory, PSS in MB\n\n" + _table(["", "producer", "relay", "workers"], rows)


def _exactness(results: dict[str, Any]) -> str:
    lines = []
    for name in summary.contenders_in(results):
        turns = [round[name] for round in results["rounds"] if name in round]
        missing, doubled = (sum(turn["exactness"][what] for turn in turns) for what in ("missing", "doubled"))
        orders = sum(turn["exactness"]["orders"] for turn in turns)
        told = f"{missing} effects missing, {doubled} doubled" if missing or doubled else "exactly three effects each"
        unverified = [turn["outbox_verify"] for turn in turns if turn.get("outbox_verify", "kept") != "kept"]
        late = sum(
            not turn.get(stage, True)
            for turn in turns
            for stage in ("drain_finished", "load_finished", "live_finished")
        )
        lines.append(
            f"- {_title(name)}: {orders} orders, {told}"
            + (f"; **`outbox verify` complained {len(unverified)} times**" if unverified else "")
            + (f"; {late} stages were given up" if late else "")
        )
    return "## Effects counted afterwards\n\n" + "\n".join(lines) + "\n"


def _floors(results: dict[str, Any]) -> str:
    rows = [
        [
            title,
            *(
                f"{figures[key]:.4g}" if key in figures else ""
                for key in ("p50_ms", "p99_ms", "cpu_ms", "per_s", "effects_per_s")
            ),
        ]
        for title, figures in results["floors"].items()
    ]
    return "## Floors: one process, bare drivers\n\n" + _table(
        ["", "p50, ms", "p99, ms", "CPU, ms", "per second", "effects/s"], rows
    )


def _growth(results: dict[str, Any]) -> str:
    rows = [
        [
            f"{figures['rows']:,} {'kept' if figures['status'] == 'succeeded' else 'pending'}",
            *(
                f"{figures[key]:.4g}"
                for key in ("order_p50_ms", "order_p99_ms", "claim_p50_ms", "claimed_rows", "drain_effects_per_s")
            ),
            "yes" if figures["exact"] else "**no**",
        ]
        for figures in results["growth"]
    ]
    return "## Shopwire with a ledger that holds rows already\n\n" + _table(
        ["present", "order p50, ms", "order p99, ms", "claim p50, ms", "rows a claim", "drain, effects/s", "exact"],
        rows,
    )


def _broker_away(results: dict[str, Any]) -> str:
    rows = []
    for name, cases in results["broker_away"].items():
        for case in ("up", "hangs", "gone"):
            figures = cases[case]
            fate = [f"no answer in {figures['no_answer_in_s']} s"] if figures["no_answer_in_s"] else []
            fate += [f"{figures['errors']} of {figures['orders']} raised"] if figures["errors"] else []
            rows.append(
                [_title(name), case]
                + [f"{figures[key]:.4g}" if figures[key] is not None else "-" for key in ("p50_ms", "p99_ms", "max_ms")]
                + ["; ".join(fate) or "answered"]
            )
        after = cases["afterwards"]
        rows.append([_title(name), "afterwards", "", "", "", f"{after['missing']} missing, {after['doubled']} doubled"])
    return "## The order while the broker is up, hangs, or is gone\n\n" + _table(
        ["", "broker", "p50, ms", "p99, ms", "max, ms", ""], rows
    )


def _title(name: str) -> str:
    return contenders.load(name).title


def _median(results: dict[str, Any], name: str, figure: str) -> str:
    found = summary.over_rounds(results, name, figure)
    return f"{found.median:.3g}" if found else ""


def _cell(found: summary.Spread | None) -> str:
    return str(found) if found else "-"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
