"""Drivers that talk to a behaving cluster over HTTP, in time that passes only when someone sleeps."""

from __future__ import annotations

from contextlib import contextmanager

import httpx
from kubernetes import client

from kedge.rollout.kserve.api import Api
from tests.rollout.fake_kubernetes import Server


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
    server = Server(cluster)
    settings = client.Configuration(host=server.url)
    settings.retries = 0
    connection = client.ApiClient(settings)
    http = httpx.Client(transport=httpx.MockTransport(cluster.slots))

    def make(address=address, sleep=seconds.sleep):
        api = Api("models", connection, sleep=sleep, monotonic=seconds.monotonic)
        return driver(address, "fraud", api, http=http, sleep=sleep, monotonic=seconds.monotonic)

    yield make
    http.close()
    connection.rest_client.pool_manager.clear()
    server.stop()
