"""What a collector may be told; the defaults suit one pod with a disk of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Limits and intervals. Sizes are in bytes, times in seconds."""

    spool: Path
    """Folder of the journal: this collector's own, on a disk that survives a restart."""
    interval_seconds: float = 10.0
    """How often what was acknowledged is appended to the log."""
    segment_bytes: int = 4 << 20
    """A journal segment of this size is appended without waiting for the interval."""
    max_spool_bytes: int = 8 << 30
    """Above this, senders that can repeat are told to; KServe's logger, which cannot, is taken while a disk is left."""
    reserve_bytes: int = 256 << 20
    """Free disk kept back from senders that can repeat."""
    max_body_bytes: int = 4 << 20
    """Largest event body."""
    max_bulk_bytes: int = 256 << 20
    """Largest file of labels."""
    max_waiting_bytes: int = 32 << 20
    """Bodies being read and lines waiting for the disk, together; above it senders are told to come again."""
    body_seconds: float = 15.0
    """A body that takes longer to arrive is refused."""
    max_ahead_seconds: float = 3600.0
    """Events dated further ahead of the collector's clock are refused; 0: no limit."""
    max_age_seconds: float = 0.0
    """Events older than this are refused; 0: no limit."""
    sample: float = 1.0
    """Share of ids kept, 0 to 1."""
    token: str | None = None
    """Bearer token that lets a sender send everything."""
    senders: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Service accounts, NAMESPACE/NAME, and what each may send by its pods' tokens: events, labels, checks, flush. With
    neither these nor a token everyone may send everything."""
    audience: str = "kedge-collector"
    """What those tokens are made out to."""
    untokened_logger: frozenset[str] = frozenset()
    """Models of which events of KServe's logger, which can show no token, are taken all the same."""
    hash_key: bytes | None = None
    """Key of `privacy: hash`."""
    version_annotation: str = "kedge.dev/bundle"
    """InferenceService annotation with the model version, in events of KServe's logger."""
    compact_every: int = 64
    """Appends after which small files are put together; 0: never."""
    retention_days: int = 0
    """Days kept in the log, counted back from the newest row received; 0: all."""
    max_drop_days: int = 7
    """Days that the retention may drop at once; more are told and kept. 0: any number."""
