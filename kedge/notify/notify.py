"""How a run ended: as a card in Markdown, as one line, and the line posted to a webhook."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

from kedge.policy import Policy
from kedge.records import Evaluated, Record, RunFinished, RunState

SECONDS = 10.0
MAX_TEXT = 2000
OUTCOMES: Mapping[RunState, str] = {
    "succeeded": "succeeded",
    "rejected": "did its work, and the candidate did not pass",
    "inconclusive": "did its work, and the rows are too few to judge the candidate",
    "failed": "failed",
}


def text(finished: Record[RunFinished]) -> str:
    """The verdict of a run in one line.

    Args:
        finished: Its ``run-finished`` record.
    """
    data = finished.data
    step = f" in step {data.step}" if data.step and data.state == "failed" else ""
    about = f", bundle {data.bundle[:12]}" if data.bundle else ""
    why = f": {' '.join(data.reason.split())}" if data.reason else ""
    line = f"{finished.model}: run {data.run} {OUTCOMES[data.state]}{step}{about}{why}"
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


def send(policy: Policy, finished: Record[RunFinished], environment: Mapping[str, str] = os.environ) -> str:
    """Post the verdict of a run, where the policy wants to hear of such; say what was done. Raises nothing."""
    if finished.data.state not in policy.notify.states:
        return "nobody is to be told"
    return post(policy, text(finished), environment)


def post(policy: Policy, line: str, environment: Mapping[str, str] = os.environ) -> str:
    """Post a line as ``{"text": ...}``, which Slack's and most chats' incoming webhooks take; say what was done.

    Nothing is raised: a chat that is away is no reason for anything to fail. Only a connection that could not be made
    is tried again, because what was sent may have arrived. The address is a secret, so it is in no message.
    """
    variable = policy.notify.url_variable
    if variable is None:
        return "nobody is to be told"
    url = environment.get(variable, "")
    if not url.startswith(("https://", "http://")):
        return f"nobody was told: ${variable} holds no http(s) address here"
    return _post_to(url, line, f"the address in ${variable}")


def _post_to(url: str, line: str, receiver: str) -> str:
    import httpx

    try:
        with httpx.Client(timeout=SECONDS, transport=httpx.HTTPTransport(retries=2)) as client:
            answer = client.post(url, json={"text": escaped(line)})
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        return f"nobody was told: {receiver} did not answer ({type(exc).__name__})"
    if not answer.is_success:
        return f"nobody was told: {receiver} answered {answer.status_code}"
    return f"told {receiver}"


def escaped(line: str) -> str:
    """As Slack asks for it: otherwise ``<!channel>`` in a column's name would call everybody.

    >>> escaped("a < b & c")
    'a &lt; b &amp; c'
    """
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def card(finished: Record[RunFinished], evaluated: Record[Evaluated] | None) -> str:
    """The verdict in Markdown, with the gates and figures of the challenger where there was one."""
    data = finished.data
    told_by_gates = evaluated is not None and data.step == "evaluate" and data.state != "failed"
    facts = {
        "run": data.run,
        "step": data.step if data.state == "failed" else None,
        "why": None if told_by_gates else data.reason,  # the gates below say it
        "bundle": data.bundle,
        "version": data.version,
        "outcome": data.outcome,
    }
    lines = [f"# {plain(finished.model)}: {OUTCOMES[data.state]}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {plain(value)} |" for name, value in facts.items() if value]
    return "\n".join([*lines, *(_proof(evaluated) if evaluated is not None else ()), ""])


def _proof(evaluated: Record[Evaluated]) -> Iterator[str]:
    yield from ("", "## Gates", "", "| gate | | |", "|---|---|---|")
    for gate in evaluated.data.gates:
        yield f"| {plain(gate.name)} | {'passed' if gate.passed else f'**{gate.outcome}**'} | {plain(gate.sentence)} |"
    yield from ("", "## Figures", "", "| figure | value |", "|---|---|")
    for name, value in evaluated.data.metrics.items():
        yield f"| {plain(name)} | {value:.6g} |"


def plain(words: str) -> str:
    """Text that stays text in a table of Markdown.

    >>> plain("a|b <i> *c*")
    'a\\\\|b &lt;i&gt; \\\\*c\\\\*'
    """
    safe = re.sub(r"([\\`*_\[\]|~#])", r"\\\1", " ".join(words.split()))
    return safe.replace("<", "&lt;").replace(">", "&gt;")
