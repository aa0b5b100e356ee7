"""As shopwire, but no task takes batches: one message and one transaction for each."""

from dataclasses import replace

from bench.contenders.shopwire import CONTENDER as SHOPWIRE

CONTENDER = replace(
    SHOPWIRE,
    name="shopwire_unbatched",
    title="Shopwire, batches off",
    settings={**SHOPWIRE.settings, "BENCH_BATCH_SIZE": 1},
    backlog=2,
)
