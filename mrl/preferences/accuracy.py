"""How sure a share is."""

from math import sqrt

Z = 1.96
"""Standard deviations on either side of 95%."""


def share_interval(share: float, n: int) -> list[float]:
    """95% interval of a share of n independent trials (Wilson 1927), rounded to four places."""
    if not n:
        return [0.0, 1.0]
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return [round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)]
