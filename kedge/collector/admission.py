"""Who may send what, by the header ``Authorization`` alone: a body is read only for those who may.

A pod shows its projected service account token, made out to the collector's audience, and Kubernetes says whose it is
(a TokenReview). That asks for one right, to create TokenReviews, and holds for every issuer, every kind of key and pods
that have ended; looking at signatures here would ask for a library of cryptography and see none of the last.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping, MutableMapping
from hashlib import sha256
from typing import Literal, NamedTuple, get_args

from kedge.collector import events, kserve
from kedge.collector.declared import Declared
from kedge.collector.rejection import RequestRejected
from kedge.collector.settings import Settings
from kedge.errors import UsageError
from kedge.token_review import account_of

Work = Literal["events", "labels", "checks", "flush"]
Headers = Mapping[bytes, bytes]

FRESH_SECONDS = 300.0
"""An answer of Kubernetes holds so long; the token of a pod that has ended, too."""
STALE_SECONDS = 3600.0
"""And so long where Kubernetes cannot be asked: what was good an hour ago is no reason to lose predictions."""
BAD_SECONDS = 30.0
"""So long it holds that a token is none, or that Kubernetes is away."""
MAX_KNOWN = 1000
AT_ONCE = 4
"""Questions to Kubernetes at a time, however many strangers come."""
BEARER = b"Bearer "


class _Known(NamedTuple):
    account: str | None
    """NAMESPACE/NAME; None of a token that is none of this audience."""
    at: float
    """When Kubernetes said so."""
    until: float
    """It is not asked again before."""


class Admission:
    """Lets requests in by shared token, by account, or as KServe's logger, which can show no token.

    Args:
        settings: Its ``token``, ``senders``, ``audience`` and ``untokened_logger``. With none of them everyone may
            send everything.
        faults: Told under ``tokens`` while Kubernetes cannot be asked.
        review: Whose a token is; None of one that is not good. OSError where Kubernetes cannot be asked.
        monotonic: Seconds since any moment.
    """

    def __init__(
        self,
        settings: Settings,
        declared: Mapping[str, Declared],
        faults: MutableMapping[str, str],
        *,
        review: Callable[[str, str], str | None] = account_of,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = BEARER + settings.token.encode() if settings.token else None
        self._senders = settings.senders
        self._audience = settings.audience
        self._loggers = settings.untokened_logger
        self._declared = declared
        self._faults = faults
        self._review = review
        self._monotonic = monotonic
        self._known: dict[bytes, _Known] = {}
        self._asking = asyncio.Semaphore(AT_ONCE)
        unknown = sorted(self._loggers - declared.keys())
        if unknown:
            raise UsageError(f"--untokened-logger {unknown[0]}: no policy declares it; {', '.join(declared)} are")

    def at_once(self, headers: Headers, work: Work) -> bool:
        """Whether it is let in; False where Kubernetes has to be asked first, see :meth:`admit`.

        Raises:
            RequestRejected: it is not.
        """
        if self._shared is None and not self._senders:
            return True
        shown = headers.get(b"authorization", b"")
        if self._shared is not None and hmac.compare_digest(shown, self._shared):
            return True
        if work == "events" and self._is_open_logger(headers):
            return True
        if not self._senders or not shown.startswith(BEARER):
            raise RequestRejected("unauthorized", "the header `Authorization: Bearer <token>` is missing or wrong")
        known = self._known.get(sha256(shown).digest())
        if known is None or self._monotonic() >= known.until:
            return False
        self._check(known.account, work)
        return True

    async def admit(self, headers: Headers, work: Work) -> None:
        """The same, and ask Kubernetes where that is needed."""
        if self.at_once(headers, work):
            return
        async with self._asking:
            if self.at_once(headers, work):  # another request with this token was answered meanwhile
                return
            account = await self._asked(headers[b"authorization"])
        self._check(account, work)

    async def _asked(self, shown: bytes) -> str | None:
        """Whose a token is; while Kubernetes is away what it said before, if that is not too long ago."""
        key, token = sha256(shown).digest(), shown[len(BEARER) :].decode("latin-1")
        try:
            account = await asyncio.to_thread(self._review, token, self._audience)
        except OSError as exc:
            self._faults["tokens"] = f"Kubernetes cannot be asked whose a token is: {exc}"
            known, now = self._known.get(key), self._monotonic()
            if known is None or known.account is None or now - known.at > STALE_SECONDS:
                raise RequestRejected("busy", f"{self._faults['tokens']}; send again later") from exc
            self._known[key] = known._replace(until=now + BAD_SECONDS)
            return known.account
        self._faults.pop("tokens", None)
        self._remember(key, account)
        return account

    def _remember(self, key: bytes, account: str | None) -> None:
        """Strangers push out strangers, and nobody who may send."""
        if len(self._known) >= MAX_KNOWN:
            kept = {key: known for key, known in self._known.items() if known.account in self._senders}
            self._known = kept if len(kept) < MAX_KNOWN else {}
        now = self._monotonic()
        self._known[key] = _Known(account, now, now + (FRESH_SECONDS if account else BAD_SECONDS))

    def _check(self, account: str | None, work: Work) -> None:
        if account is None:
            raise RequestRejected(
                "unauthorized", f"the token is none that Kubernetes knows for the audience {self._audience}"
            )
        if work not in self._senders.get(account, ()):
            may = ",".join(sorted(self._senders.get(account, ()))) or "nothing"
            raise RequestRejected(
                "forbidden", f"the account {account} may send {may}; --sender {account}={work} lets it"
            )

    def _is_open_logger(self, headers: Headers) -> bool:
        """An event of KServe's logger, by the headers that also say how it is read, about a model that takes them."""
        if not self._loggers or events.media_type(headers.get(b"content-type", b"")) in (
            events.STRUCTURED,
            events.BATCHED,
        ):
            return False
        attributes = events.attributes(headers)
        if attributes.get("type") not in (events.REQUEST, events.RESPONSE):
            return False
        return kserve.service(attributes, self._declared)[0] in self._loggers


def senders_of(given: list[str]) -> dict[str, frozenset[Work]]:
    """Accounts and what each may send.

    >>> sorted(senders_of(["ml/kedge-slots=events", "billing/outcomes=labels,checks"])["billing/outcomes"])
    ['checks', 'labels']

    Raises:
        UsageError: it is not NAMESPACE/NAME=WORK,....
    """
    found: dict[str, frozenset[Work]] = {}
    for text in given:
        account, _, words = text.partition("=")
        works = frozenset(work for work in get_args(Work) if work in words.split(","))
        if account.count("/") != 1 or not all(account.split("/")) or len(works) != len(words.split(",")):
            raise UsageError(
                f"--sender {text!r}: write NAMESPACE/NAME=WORK,... with each work once of {', '.join(get_args(Work))}"
            )
        found[account] = found.get(account, frozenset()) | works
    return found
