"""How sure a share is."""

from scipy.stats import binomtest


def share_interval(share: float, n: int) -> list[float]:
    """The 95 per cent interval of a share of n (Wilson 1927), as low and high end."""
    found = binomtest(round(share * n), n).proportion_ci(method="wilson")
    return [round(float(found.low), 4), round(float(found.high), 4)]
