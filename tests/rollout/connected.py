"""Drivers that talk to a behaving cluster over HTTP, in time that passes only when someone sleeps."""

from __future__ import annotations

from contextlib import contextmanager

import httpx
from kubernetes import client

from kedge.rollout.kserve.api import Api
from tests.rollout.fake_kubernetes import over_http


class Seconds:
    """Time that passes only when someone sleeps."""

    def __init__(self):
        self.passed = 0.0

    def sleep(self, seconds):
        self.passed += seconds

    def monotonic(self):
        return self.passed


@contextmanager
def connected(driver, cluster, address, seconds):
    """Makes drivers of a kind, as new processes would."""
    with over_http(cluster) as url, httpx.Client(transport=httpx.MockTransport(cluster.slots)) as http:
        settings = client.Configuration(host=url)
        settings.retries = 0
        connection = client.ApiClient(settings)

        def make(address=address, sleep=seconds.sleep):
            api = Api("models", connection, sleep=sleep, monotonic=seconds.monotonic)
            return driver(address, "fraud", api, http=http, sleep=sleep, monotonic=seconds.monotonic)

        yield make
        connection.rest_client.pool_manager.clear()
