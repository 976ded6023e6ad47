"""Numbers for people."""


def in_words(value: float) -> str:
    """Three digits, all those before the point, and no powers of ten.

    >>> in_words(0.4571), in_words(157.7), in_words(1440.0), in_words(899786722.97)
    ('0.457', '158', '1,440', '899,786,723')
    """
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.3g}"
