"""As shopwire, with PREPARED_STATEMENTS=0: the client binds parameters, as by default in Django and the peers."""

from dataclasses import replace

from bench.contenders.shopwire import CONTENDER as SHOPWIRE

CONTENDER = replace(
    SHOPWIRE,
    name="shopwire_unprepared",
    title="Shopwire, PREPARED_STATEMENTS=0",
    prepared=False,
)
