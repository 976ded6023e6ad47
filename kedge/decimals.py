"""Numbers that stay equal whatever width, unit or format held them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT_POWER = 22
"""Up to here a power of ten is a 64-bit float without rounding."""
A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Arrow's units of time, in each second."""


def widened(values: NDArray[Any]) -> NDArray[np.float64]:
    """Floats of any width as 64-bit ones; a narrow one that a short decimal number was rounded to is that number again.

    A plain cast keeps the rounding of the narrow float: 0.1 in 32 bits would become 0.10000000149, and a request, a CSV
    file or a wider column that says 0.1 would differ from it. Cast back, every value gives the float it came from.
    Short is what the width surely holds, and a digit more: 7 for 32 bits.

    >>> narrow = np.array([0.1, 2.5e-7, 16777216.0, np.nan], np.float32)
    >>> widened(narrow).tolist(), narrow.astype(np.float64)[0].item()
    ([0.1, 2.5e-07, 16777216.0, nan], 0.10000000149011612)
    """
    wide = values.astype(np.float64)
    if values.dtype.itemsize >= wide.dtype.itemsize:
        return wide
    left = np.flatnonzero(np.isfinite(wide) & (wide != np.rint(wide)))
    digits = np.finfo(values.dtype).precision
    for kept in (digits, digits + 1):
        if not len(left):
            break
        rounded = _rounded(wide[left], kept)
        same = rounded.astype(values.dtype) == values[left]
        wide[left[same]] = rounded[same]
        left = left[~same]
    return wide


def spelled(value: float) -> str:
    """A number as the text of a category: whole ones without a fraction, in full as far as a float holds them.

    >>> spelled(3.0), spelled(2.5), spelled(4539148803436467.0), spelled(1e20)
    ('3', '2.5', '4539148803436467', '1e+20')
    """
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else f"{value:.15g}"


def nearest(column: Any) -> Any:
    """A column of Arrow's decimals as the 64-bit floats nearest to them, as other programs read such digits.

    Arrow's own cast multiplies by a rounded power of ten: of the prices up to 100,000.00 it misses one in seven.

    >>> import pyarrow as pa
    >>> price = pa.array([81.41]).cast(pa.decimal128(18, 2))
    >>> nearest(price)[0].as_py(), nearest(pa.array([1e-7]).cast(pa.decimal128(18, 10)))[0].as_py()
    (81.41, 1e-07)
    """
    return column.cast("string").cast("float64")


def digits_of(value: Any) -> str | None:
    """A decimal as the text of a category: in full, without trailing zeros.

    >>> from decimal import Decimal
    >>> digits_of(Decimal("3.00")), digits_of(Decimal("0E-18")), digits_of(Decimal("1.2E+3"))
    ('3', '0', '1200')
    """
    if value is None:
        return None
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def seconds(ticks: NDArray[np.int64], unit: str) -> NDArray[np.float64]:
    """Durations in seconds: the same duration gives the same number from every unit.

    >>> seconds(np.array([1_100_000]), "us") == seconds(np.array([1_100_000_000]), "ns")
    array([ True])
    """
    whole, rest = np.divmod(ticks, A_SECOND[unit])
    return whole + rest / A_SECOND[unit]


def _rounded(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    """Values rounded to significant digits; powers of ten up to 10^22 are exact, so each is its decimal's float."""
    power = np.clip(digits - 1 - np.floor(np.log10(np.abs(values))).astype(np.int64), -EXACT_POWER, EXACT_POWER)
    scale = 10.0 ** np.abs(power)
    up = power > 0
    whole = np.rint(np.where(up, values * scale, values / scale))
    return np.where(up, whole / scale, whole * scale)
