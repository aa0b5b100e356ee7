"""
The shop's Celery app with sentry-sdk set up as its users do; what it would send is appended to the file ``SENTRY``.

``celery -A tests.sentry worker`` runs it.
"""

import json
import os

import sentry_sdk
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport

from worker.celery import app

__all__ = ["app"]


class File(Transport):
    """Sends nothing anywhere."""

    def capture_envelope(self, envelope):
        with open(os.environ["SENTRY"], "a") as file:
            for item in envelope.items:
                if (said := item.payload.json) is not None:
                    file.write(json.dumps({"type": item.type, "said": said}) + "\n")


sentry_sdk.init(
    "http://key@127.0.0.1:1/1",
    transport=File,
    integrations=[CeleryIntegration(), DedupeIntegration(), LoggingIntegration()],
    default_integrations=False,
    traces_sample_rate=1.0,
)
