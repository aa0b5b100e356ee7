"""``/metrics``, for Prometheus: metrics of the ledger, and of HTTP."""

import hmac
from collections.abc import Iterator
from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from celery_ledger.watch.metrics import LedgerCollector
from web import http_counts


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the metrics, to clients that :func:`may_read` accepts."""
    if not may_read(request):
        return HttpResponseForbidden(
            "Send METRICS_TOKEN as a bearer token, or request the metrics from this machine.", content_type="text/plain"
        )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ShopCollector())
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry), content_type=content_type)


def may_read(request: HttpRequest) -> bool:
    """
    Whether ``request`` carries METRICS_TOKEN, or comes from this machine without a proxy.

    Others may not read them: the figures show how the business is doing.
    """
    token = settings.METRICS_TOKEN
    offered = request.headers.get("Authorization", "")
    if token and hmac.compare_digest(offered.encode(), f"Bearer {token}".encode()):
        return True
    if settings.BEHIND_PROXY or any(name in request.headers for name in ("X-Forwarded-For", "Forwarded", "Via")):
        return False
    try:
        return ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


class ShopCollector(Collector):
    """The ledger's metrics, also under their names of the last release, and those of HTTP."""

    def collect(self) -> Iterator[Metric]:
        for family in LedgerCollector().collect():
            yield family
            yield under_old_name(family)
        yield from http_counts.collect()


def under_old_name(family: Metric) -> Metric:
    """Return the same figures with the prefix ``shopwire_``: rules and dashboards have one release to change."""
    old = Metric(_old(family.name), f"Old name of {family.name}.", family.type, family.unit)
    old.samples = [sample._replace(name=_old(sample.name)) for sample in family.samples]
    return old


def _old(name: str) -> str:
    return name.replace("celery_ledger_", "shopwire_", 1)
