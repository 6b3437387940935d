"""Nothing secret leaves: what looks like a key to a door, by its name, its look or this process's environment."""

import logging
import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
_SECRET_NAME = re.compile(
    # `eos_token` and its kin are no secrets, so only tokens that open a door count
    r"^token$|(hub|hf|access|auth|api|bearer)_?token$|(^|_)(secret|password|api_?key|authorization)$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"(?<![A-Za-z0-9])(hf_[A-Za-z0-9]{16,}|wandb_v1_\w{16,}|gh[pousr]_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{20,})"
)


def redact(value: Any) -> Any:
    """The same data without secrets: by the name of the key and by the look of the string."""
    if isinstance(value, Mapping):
        return {
            redact(k): HIDDEN if _SECRET_NAME.search(str(k)) and isinstance(v, str) and v else redact(v)
            for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact(v) for v in value]
    return redact_text(value) if isinstance(value, str) else value


def redact_text(text: str) -> str:
    """A text without what looks like a secret, and without the secrets that this process was given by environment."""
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET_NAME.search(name) and value in text:
            text = text.replace(value, HIDDEN)
    return _SECRET_VALUE.sub(HIDDEN, text)


class RedactingFormatter(logging.Formatter):
    """Log lines (a traceback in them included) without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(super().format(record))
