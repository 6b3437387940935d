"""Progress for people: a bar on a terminal, a line now and then elsewhere."""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any

from tqdm import tqdm

logger = logging.getLogger(__name__)


def is_main_process() -> bool:
    """True in the only process, or in rank 0 of several."""
    return int(os.environ.get("RANK", "0")) == 0


class ProgressBar[Item](Iterable[Item]):
    """tqdm on a terminal; elsewhere a log line each `every_s` seconds, so that a job under nohup isn't silent."""

    def __init__(
        self,
        iterable: Iterable[Item] | None = None,
        *,
        total: int | None = None,
        desc: str = "",
        unit: str = "it",
        initial: int = 0,
        every_s: float = 15.0,
    ) -> None:
        self.iterable = iterable
        self.total = len(iterable) if total is None and isinstance(iterable, Sized) else total
        self.desc, self.unit, self.count, self.initial, self.every_s = desc, unit, initial, initial, every_s
        self.started = self.last = time.monotonic()
        self.postfix: dict[str, Any] = {}
        on_terminal = sys.stderr.isatty() and is_main_process()
        self.bar = tqdm(
            total=self.total, desc=desc, unit=unit, initial=initial, dynamic_ncols=True, disable=not on_terminal
        )
        self.plain = not on_terminal and is_main_process()

    def __iter__(self) -> Iterator[Item]:
        with self:
            for item in self.iterable or ():
                yield item
                self.update()

    def update(self, n: int = 1, **postfix: Any) -> None:
        """Count `n` more; `postfix` numbers are shown beside the bar."""
        self.count += n
        if postfix:
            self.postfix = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in postfix.items()}
            self.bar.set_postfix(self.postfix, refresh=False)
        self.bar.update(n)
        if self.plain and time.monotonic() - self.last >= self.every_s:
            self.last = time.monotonic()
            self._line()

    def _line(self) -> None:
        rate = (self.count - self.initial) / max(time.monotonic() - self.started, 1e-9)
        of = f"/{self.total}" if self.total is not None else ""
        extra = "".join(f" {k} {v}" for k, v in self.postfix.items())
        logger.info("%s: %d%s %s, %.1f %s/s%s", self.desc, self.count, of, self.unit, rate, self.unit, extra)

    def close(self) -> None:
        """Leave the bar; without a terminal, print the final count."""
        self.bar.close()
        if self.plain and self.count > self.initial:
            self._line()
            self.plain = False

    def __enter__(self) -> "ProgressBar[Item]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


progress_bar = ProgressBar
