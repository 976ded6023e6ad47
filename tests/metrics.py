"""What a page of metrics says."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families


def total(page: str, name: str, **labels: str) -> float:
    """Sum of the samples of a name that carry these labels; 0 of none."""
    samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
    return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())
