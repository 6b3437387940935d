"""A tenth of a dataset set aside to validate on, where it has no split for that.

Who trains without a fold and who validates on it count the same rows: those that their filters keep, in file order.
"""

FOLDS = 10


def check_fold(fold: int | None, key: str) -> None:
    """Raises ValueError naming `key` where a fold is none of 0 to 9."""
    if fold is not None and not 0 <= fold < FOLDS:
        raise ValueError(f"{key} is {fold}; it is one of 0 to {FOLDS - 1}")


def in_fold(number: int, fold: int) -> bool:
    """Whether the row with this number, counted from 0, is in the fold."""
    return number % FOLDS == fold


__all__ = ["check_fold", "in_fold"]
