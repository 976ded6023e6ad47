"""Numbers for people."""


def in_words(value: float, digits: int = 3) -> str:
    """So many digits, all those before the point, and no powers of ten but of the smallest.

    >>> in_words(0.4571), in_words(157.7), in_words(1440.0), in_words(899786722.97)
    ('0.457', '158', '1,440', '899,786,723')
    >>> in_words(0.543211, 5), in_words(-12.34567, 5)
    ('0.54321', '-12.346')
    """
    return f"{value:,.0f}" if abs(value) >= 10**digits - 0.5 else f"{value:,.{digits}g}"
