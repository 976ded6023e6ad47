"""Charts as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from markupsafe import Markup

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 66, 16, 26, 30
HALF_LETTER = 3.4
"""Half of how wide a letter is at most, so that a label in the middle of the last tick ends in the picture."""
SMALL_WIDTH, BASE = 240.0, 66.0
"""Of a small histogram, and where its bars stand."""
COLOURS = 6
MAX_TIMES = 6
"""Times below a chart: more would run into each other."""
LABEL_ROWS, LABEL_HEIGHT = 3, 13
"""Labels of events stand above the plot, where no curve is, in so many rows of this height."""
MAX_LABELLED, LANE = 12, 14
"""More events than can be labelled in the plot get a lane of ticks each kind below it, of this height."""

Position = datetime | float
Point = tuple[Position, float | None]
Interval = tuple[float, float]
Events = Sequence[tuple[Position, str]]

NOTHING = Markup('<figure><p class="subtitle">Nothing to draw yet.</p></figure>')

_STEPS = tuple(
    timedelta(seconds=seconds)
    for seconds in (
        1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86_400, 2 * 86_400, 7 * 86_400, 14 * 86_400,
        30 * 86_400, 91 * 86_400, 365 * 86_400, 5 * 365 * 86_400,
    )
)  # fmt: skip


def line_chart(series: Mapping[str, Sequence[Point]], *, events: Events = (), y_label: str = "") -> Markup:
    """Curves over time or over a number.

    Args:
        series: Name to points ``(position, value)``, in any order; a value of ``None`` (or not finite) breaks the
            curve. All positions are datetimes or all are numbers; a datetime without an offset is UTC.
        events: Dashed vertical lines with a label; where there are many, ticks below the curves, a lane each label.
        y_label: What the values are, with their unit.

    Raises:
        ValueError: datetimes and numbers are mixed.
    """
    positions = [position for points in series.values() for position, _ in points] + [at for at, _ in events]
    values = [value for points in series.values() for _, value in points if value is not None and math.isfinite(value)]
    if not positions or not values:
        return NOTHING
    timed = _is_timed(positions)
    across = _widened([_number(position) for position in positions], 43_200.0 if timed else None)
    down = _widened(values)
    x_ticks, y_ticks = _x_ticks(across, timed), _ticks(*down, 4)
    down = (min(down[0], y_ticks[0][0]), max(down[1], y_ticks[-1][0]))
    drawn = [
        _grid(x_ticks, y_ticks, across, down),
        *(_lanes(events, across) if len(events) > MAX_LABELLED else _lines(events, across)),
        *(_curve(points, across, down, k) for k, points in enumerate(series.values())),
        Markup('<text x="{}" y="{}">{}</text>').format(LEFT, 12 - _above(events), y_label),
    ]
    return _figure(drawn, list(series), y_label, above=_above(events), below=_below(events))


def scatter_chart(points: Sequence[tuple[float, float]], *, name: str, diagonal: str = "", y_label: str = "") -> Markup:
    """Dots over two numbers.

    Args:
        points: ``(position, value)``; those that are not finite are left out.
        name: What the dots are.
        diagonal: Name of the line on which position and value are equal; empty: not drawn.
        y_label: What the values are, over what, with their units.
    """
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not finite:
        return NOTHING
    across, down = _widened([x for x, _ in finite]), _widened([y for _, y in finite])
    y_ticks = _ticks(*down, 4)
    down = (min(down[0], y_ticks[0][0]), max(down[1], y_ticks[-1][0]))
    low, high = max(across[0], down[0]), min(across[1], down[1])
    drawn = [
        _grid(_x_ticks(across, False), y_ticks, across, down),
        Markup('<path class="dots" style="stroke:var(--series-0)" d="{}"/>').format(
            "".join(f"M{_r(_x(x, across))},{_r(_y(y, down))}h0" for x, y in finite)  # no length: a round cap is a dot
        ),
        *([_diagonal(low, high, across, down)] if diagonal and low < high else []),
        Markup('<text x="{}" y="12">{}</text>').format(LEFT, y_label),
    ]
    return _figure(drawn, [name, *([diagonal] if diagonal else [])], y_label)


def histogram_pair(
    labels: Sequence[str], reference: Sequence[float], current: Sequence[float], *, caption: Markup | str = ""
) -> Markup:
    """Two histograms over the same bins: the reference as grey bars, the current window as a coloured outline.

    Args:
        labels: One a bin. Only the first and last are written; each bar tells its own to the pointer.
        reference, current: Counts or shares, not negative; each is scaled to shares.
        caption: Stands below.

    Raises:
        ValueError: lengths differ or a value is negative or not finite.
    """
    before, after = _shares(reference), _shares(current)
    if not len(labels) == len(before) == len(after):
        raise ValueError(f"{len(labels)} labels, {len(before)} reference and {len(after)} current bins must agree")
    tallest, step = max([*before, *after, 1e-12]), SMALL_WIDTH / max(len(labels), 1)
    steps = " ".join(
        f"L{_r(k * step)},{_r(BASE - BASE * share / tallest)}L{_r((k + 1) * step)},{_r(BASE - BASE * share / tallest)}"
        for k, share in enumerate(after)
    )
    outline = Markup('<path class="curve" style="stroke:var(--series-1)" d="M0,{}{}L{},{}"/>').format(
        _r(BASE), steps, _r(SMALL_WIDTH), _r(BASE)
    )
    told = [
        f"{label}: reference {old:.2%}, current {new:.2%}"
        for label, old, new in zip(labels, before, after, strict=True)
    ]
    drawn = _bars(before, tallest, told) + outline
    return _small(drawn, labels, "reference (bars) and current (outline)", caption)


def histogram(labels: Sequence[str], counts: Sequence[float], *, caption: Markup | str = "") -> Markup:
    """One histogram, as small as those of :func:`histogram_pair`.

    Raises:
        ValueError: lengths differ or a value is negative or not finite.
    """
    shares = _shares(counts)
    told = [f"{label}: {share:.2%}" for label, share in zip(labels, shares, strict=True)]
    return _small(_bars(shares, max([*shares, 1e-12]), told), labels, "histogram", caption)


def _bars(shares: Sequence[float], tallest: float, told: Sequence[str]) -> Markup:
    step = SMALL_WIDTH / max(len(shares), 1)
    return Markup("").join(
        Markup('<rect class="bars" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
            _r(k * step), _r(BASE - BASE * share / tallest), _r(max(step - 1, 0.5)), _r(BASE * share / tallest), words
        )
        for k, (share, words) in enumerate(zip(shares, told, strict=True))
    )


def _small(drawn: Markup, labels: Sequence[str], name: str, caption: Markup | str) -> Markup:
    ends = Markup("")
    if labels:
        ends = Markup('<text x="0" y="78">{}</text><text x="{}" y="78" text-anchor="end">{}</text>').format(
            _short(labels[0]), _r(SMALL_WIDTH), _short(labels[-1]) if len(labels) > 1 else ""
        )
    below = Markup("<figcaption>{}</figcaption>").format(caption) if caption else Markup("")
    return Markup('<figure><svg viewBox="0 -2 {} 84" role="img" aria-label="{}">{}{}</svg>{}</figure>').format(
        _r(SMALL_WIDTH), name, drawn, ends, below
    )


def _figure(drawn: Sequence[Markup], names: Sequence[str], y_label: str, *, above: int = 0, below: int = 0) -> Markup:
    label, height = f"{y_label or 'values'}: {', '.join(names)}", HEIGHT + above + below
    return Markup(
        '<figure><svg viewBox="0 {} {} {}" role="img" aria-label="{}">{}</svg>\n<div class="legend">{}</div></figure>'
    ).format(-above, WIDTH, height, label, Markup("").join(drawn), _legend(names))


def _diagonal(low: float, high: float, across: Interval, down: Interval) -> Markup:
    start, end = ((_r(_x(at, across)), _r(_y(at, down))) for at in (low, high))
    return Markup('<path class="curve" style="stroke:var(--series-1)" d="M{},{}L{},{}"/>').format(*start, *end)


def _is_timed(positions: Sequence[Position]) -> bool:
    kinds = {isinstance(position, datetime) for position in positions}
    if len(kinds) > 1:
        raise ValueError("positions must be all datetimes or all numbers, not both in one chart")
    return kinds.pop()


def _number(position: Position) -> float:
    if isinstance(position, datetime):
        return (position if position.tzinfo else position.replace(tzinfo=UTC)).timestamp()
    return float(position)


def _widened(values: Sequence[float], margin: float | None = None) -> Interval:
    """From the lowest to the highest; around a single one by a margin, a twentieth of it if none is given."""
    low, high = min(values), max(values)
    if low == high:
        margin = margin or abs(low) * 0.05 or 1.0
        return low - margin, high + margin
    return low, high


def _x(value: float, across: Interval) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - across[0]) / (across[1] - across[0])


def _y(value: float, down: Interval) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - down[0]) / (down[1] - down[0])


def _ticks(low: float, high: float, about: int) -> list[tuple[float, str]]:
    """Round values that cover an interval."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [(k * step, f"{k * step:,.7g}") for k in range(first, last + 1)]


def _x_ticks(across: Interval, timed: bool) -> list[tuple[float, str]]:
    if not timed:
        return [tick for tick in _ticks(*across, 6) if across[0] <= tick[0] <= across[1]]
    span = across[1] - across[0]
    step = next((s.total_seconds() for s in _STEPS if span / s.total_seconds() <= MAX_TIMES), span / MAX_TIMES)
    form = "%H:%M:%S" if step < 60 else "%d %b %H:%M" if step < 86_400 else "%d %b %Y"
    first = math.ceil(across[0] / step)
    ticks = [k * step for k in range(first, math.floor(across[1] / step) + 1)]
    return [(tick, datetime.fromtimestamp(tick, UTC).strftime(form)) for tick in ticks]


def _grid(
    x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[tuple[float, str]], across: Interval, down: Interval
) -> Markup:
    rows = Markup("").join(
        Markup('<path class="axis" d="M{},{}H{}"/><text x="{}" y="{}" text-anchor="end">{}</text>').format(
            LEFT, _r(_y(at, down)), WIDTH - RIGHT, LEFT - 6, _r(_y(at, down) + 4), label
        )
        for at, label in y_ticks
    )
    columns = Markup("").join(
        Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
            _r(min(_x(at, across), WIDTH - HALF_LETTER * len(label))), HEIGHT - 10, label
        )
        for at, label in x_ticks
    )
    return rows + columns


def _lines(events: Events, across: Interval) -> list[Markup]:
    return [_event(_x(_number(at), across), label, k) for k, (at, label) in enumerate(events)]


def _lanes(events: Events, across: Interval) -> list[Markup]:
    """One row of ticks a label, under the axis; the tick tells its label to the pointer."""
    drawn = []
    for lane, name in enumerate(dict.fromkeys(label for _, label in events)):
        top = HEIGHT + LANE * lane
        drawn.append(
            Markup('<text class="lane" x="{}" y="{}" text-anchor="end">{}</text>').format(LEFT - 6, top + 9, name)
        )
        drawn += [
            Markup('<path class="tick" d="M{},{}v10"><title>{}</title></path>').format(
                _r(_x(_number(at), across)), top, label
            )
            for at, label in events
            if label == name
        ]
    return drawn


def _above(events: Events) -> int:
    """Height of the labels of events above the plot."""
    return LABEL_HEIGHT * min(len(events), LABEL_ROWS) if len(events) <= MAX_LABELLED else 0


def _below(events: Events) -> int:
    """Height of the lanes."""
    return LANE * len({label for _, label in events}) if len(events) > MAX_LABELLED else 0


def _event(x: float, label: str, k: int) -> Markup:
    side, at = ("end", x - 4) if x > WIDTH * 0.7 else ("start", x + 4)
    y = TOP - 4 - LABEL_HEIGHT * (k % LABEL_ROWS)
    return Markup('<path class="event" d="M{},{}V{}"/><text x="{}" y="{}" text-anchor="{}">{}</text>').format(
        _r(x), TOP, HEIGHT - BOTTOM, _r(at), y, side, label
    )


def _curve(points: Sequence[Point], across: Interval, down: Interval, k: int) -> Markup:
    commands, pen = [], "M"
    for position, value in sorted(points, key=lambda point: _number(point[0])):
        if value is None or not math.isfinite(value):
            pen = "M"
            continue
        commands.append(f"{pen}{_r(_x(_number(position), across))},{_r(_y(value, down))}")
        pen = "L"
    dash = Markup(' stroke-dasharray="6 3"') if k >= COLOURS else Markup("")
    dots = Markup("").join(
        Markup('<circle cx="{}" cy="{}" r="2" fill="var(--series-{})"/>').format(*command[1:].split(","), k % COLOURS)
        for command in (commands if len(commands) <= 40 else [])
    )
    return (
        Markup('<path class="curve" style="stroke:var(--series-{})"{} d="{}"/>').format(
            k % COLOURS, dash, "".join(commands)
        )
        + dots
    )


def _legend(names: Sequence[str]) -> Markup:
    return Markup("").join(
        Markup('<span style="--colour:var(--series-{})">{}</span>').format(k % COLOURS, name)
        for k, name in enumerate(names)
    )


def _shares(counts: Sequence[float]) -> list[float]:
    values = [float(count) for count in counts]
    if any(not math.isfinite(value) or value < 0 for value in values):
        raise ValueError("counts must be finite and not negative")
    total = sum(values)
    return [value / total if total else 0.0 for value in values]


def _short(label: str) -> str:
    return label if len(label) <= 18 else label[:17] + "…"


def _r(value: float) -> str:
    """Coordinates to a tenth of a pixel: pages of 200 charts stay small."""
    return f"{value:.1f}".removesuffix(".0")
