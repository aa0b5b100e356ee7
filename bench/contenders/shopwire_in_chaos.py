"""This project, while its processes are killed."""

from dataclasses import replace

from bench.contenders.shopwire import CONTENDER as CALM

CONTENDER = replace(CALM, name="shopwire_in_chaos", jobs="bench.jobs.shopwire_in_chaos")
