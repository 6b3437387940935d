"""Talking to the Hugging Face Hub so that a passing fault costs a pause and not the run; nothing secret leaves."""

import logging
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pipeline.errors import InputError
from pipeline.redaction import redact

logger = logging.getLogger(__name__)
ATTEMPTS = 6


def _passing_fault(error: BaseException) -> float | None:
    """Seconds the server asks to wait (0 when it names none) if the fault may pass, None if trying again is useless."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status is not None:
        if status != 429 and status < 500:
            return None
        after = str(response.headers.get("Retry-After", "")) if response is not None else ""
        return float(after) if after.isdigit() else 0.0
    # httpx and requests name their connection faults alike; neither is imported here for the sake of fast starts.
    names = {cls.__name__ for cls in type(error).__mro__}
    faults = {
        "TransportError",
        "TimeoutException",
        "ConnectionError",
        "ChunkedEncodingError",
        "ProtocolError",
        "Timeout",
    }
    return 0.0 if names & faults else None


def retrying[R](call: Callable[[], R], *, what: str) -> R:
    """Run `call`; on 429, 5xx or a cut connection wait (exponential, with jitter, or as the server asks) and try again.

    The base of the pause in seconds comes from TRLM_RETRY_BASE_S (default 1). The last fault is raised as it is.
    """
    base = float(os.environ.get("TRLM_RETRY_BASE_S", "1"))
    for attempt in range(ATTEMPTS):
        try:
            return call()
        except Exception as error:
            wait = _passing_fault(error)
            if wait is None or attempt == ATTEMPTS - 1:
                raise
            pause = max(base * 2**attempt * random.uniform(0.75, 1.25), min(wait, 300.0))
            logger.warning("%s failed (%s); attempt %d of %d in %.1f s", what, error, attempt + 2, ATTEMPTS, pause)
            time.sleep(pause)
    raise AssertionError("unreachable")


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    repo_type: Literal["model", "dataset"],
    message: str,
    private: bool = True,
    ignore_patterns: list[str] | None = None,
    delete_patterns: list[str] | None = None,
    path_in_repo: str | None = None,
) -> str:
    """Create the repository when missing and upload `folder` in one commit. Returns the commit's address.

    Files in the repository that match `delete_patterns` and aren't in `folder` go in the same commit.
    Raises InputError when the Hub refuses the credentials or the name.
    """
    from huggingface_hub import HfApi  # half a second of imports that a local run can do without
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        retrying(
            lambda: api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True),
            what=f"creating {repo_id}",
        )
        commit = retrying(
            lambda: api.upload_folder(
                repo_id=repo_id,
                repo_type=repo_type,
                folder_path=folder,
                path_in_repo=path_in_repo,
                commit_message=message,
                ignore_patterns=ignore_patterns,
                delete_patterns=delete_patterns,
            ),
            what=f"uploading {folder.name} to {repo_id}",
        )
    except LocalTokenNotFoundError:
        raise InputError(f"pushing to {repo_id} needs a token; run `hf auth login` or set HF_TOKEN") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (400, 401, 403, 404):
            raise InputError(
                f"the Hub refused {repo_id} ({status}); check the name and that the token may write there"
            ) from None
        raise
    return str(commit)


def logged_in_to_wandb() -> bool:
    """Whether wandb has a key, found without starting wandb (which would prompt)."""
    if os.environ.get("WANDB_MODE") in ("disabled", "offline"):
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    try:
        return "api.wandb.ai" in netrc.read_text(encoding="utf-8")
    except OSError:
        return False


def tracker() -> Literal["wandb", "tensorboard"]:
    """Where runs are tracked when the YAML doesn't say: wandb if logged in, else TensorBoard files on disk."""
    return "wandb" if logged_in_to_wandb() else "tensorboard"


__all__ = ["logged_in_to_wandb", "push_folder", "redact", "retrying", "tracker"]
