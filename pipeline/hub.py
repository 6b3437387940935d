"""Talking to the Hugging Face Hub so that a passing fault costs a pause and not the run; nothing secret leaves."""

import logging
import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline.connection import unreachable
from pipeline.errors import InputError, shown
from pipeline.redaction import redact

logger = logging.getLogger(__name__)
ATTEMPTS = 6
WANDB = "https://api.wandb.ai"
_UNREACHABLE = "TRLM_HUB_UNREACHABLE"
"""Set where the Hub is offline because it didn't answer, not because somebody wanted so."""


def offline() -> bool:
    """Whether the environment forbids the Hub's clients to use the network."""
    return any(
        os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
    )


def _why_offline() -> str:
    return "the Hub can't be reached" if os.environ.get(_UNREACHABLE) else "HF_HUB_OFFLINE is set"


def is_hub_name(name: str) -> bool:
    """Whether `name` can only mean `owner/name` on the Hub: nothing of that path is here, and it looks like no path."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~", "outputs/")) and not Path(name).exists()


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
    if not names & faults and error.__cause__ is not None:  # transformers wraps what the Hub's client raises
        return _passing_fault(error.__cause__)
    return 0.0 if names & faults else None


def first_line(error: BaseException) -> str:
    """What an error says first, for a message: those of the Hub's clients go on for a page, and of a forbidden network
    they say that it can't be reached."""
    seen: BaseException | None = error
    while seen is not None and offline():
        if any(name in f"{type(seen).__name__} {seen}" for name in ("OfflineModeIsEnabled", "LocalEntryNotFoundError")):
            return f"{_why_offline()} and it isn't in the cache"
        seen = seen.__cause__ or seen.__context__
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def retrying[R](call: Callable[[], R], *, what: str, attempts: int = ATTEMPTS) -> R:
    """Run `call`; on 429, 5xx or a cut connection wait (exponential, with jitter, or as the server asks) and try again.

    The base of the pause in seconds comes from TRLM_RETRY_BASE_S (default 1). The last fault is raised as it is.
    """
    base = float(os.environ.get("TRLM_RETRY_BASE_S", "1"))
    for attempt in range(attempts):
        try:
            return call()
        except Exception as error:
            wait = _passing_fault(error)
            if wait is None or attempt == attempts - 1 or offline():
                raise
            pause = max(base * 2**attempt * random.uniform(0.75, 1.25), min(wait, 300.0))
            why = first_line(error)
            logger.warning("%s failed (%s); attempt %d of %d in %.1f s", what, why, attempt + 2, attempts, pause)
            time.sleep(pause)
    raise AssertionError("unreachable")


def check_push(repo_id: str, *, repo_type: Literal["model", "dataset"], key: str, private: bool = True) -> str:
    """Make sure, before any work, that a push to `repo_id` can succeed, and create the repository where it is missing.

    Asks the Hub who the token is and whether it may write. Returns the full name, with the owner. `key` is the setting
    that asks for the push; every refusal is an InputError that begins with it.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if offline() or constants.HF_HUB_OFFLINE:
        raise InputError(f"{key}: {_why_offline()}, so nothing can be pushed; mend that or leave the push out")
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise InputError(f"{key}: the Hub doesn't take {shown(repo_id)} ({error}); write owner/name") from None
    if get_token() is None:
        raise InputError(f"{key}: pushing to {repo_id} needs a token; run `hf auth login` or set HF_TOKEN")
    api = HfApi()
    try:
        login = retrying(api.whoami, what="asking the Hub who the token is", attempts=3)
        _require_owner(repo_id, login, key)
        made = retrying(
            lambda: api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True),
            what=f"creating {repo_id}",
            attempts=3,
        )
    except Exception as error:
        if _passing_fault(error) is not None:
            why = first_line(error)
            raise InputError(f"{key}: the Hub can't be reached ({why}); try later or leave the push out") from None
        if not isinstance(error, HfHubHTTPError):
            raise
        status = getattr(error.response, "status_code", None)
        raise InputError(
            f"{key}: the Hub refuses {repo_id} ({status}); check the name and that the token may write there"
        ) from None
    return str(made.repo_id)


def _require_owner(repo_id: str, login: Mapping[str, Any], key: str) -> None:
    """Refuse a repository of somebody else: asked to create one that is there, the Hub says that it is there, whoever
    may write into it. `login`: the answer of whoami."""
    name = login.get("name")
    if (login.get("auth", {}).get("accessToken") or {}).get("role") == "read":
        raise InputError(f"{key}: the token of {name} may only read; make one that may write")
    owner = repo_id.split("/")[0] if "/" in repo_id else name
    organisations = {org.get("name"): org.get("roleInOrg") for org in login.get("orgs") or []}
    if owner != name and owner not in organisations:
        others = f" or one of {', '.join(sorted(organisations))}" if organisations else ""
        raise InputError(f"{key}: the token is of {name}, who can't write into {repo_id}; write {name}/…{others}")
    if organisations.get(owner) == "read":
        raise InputError(f"{key}: {name} may only read what is of {owner}; ask its owners, or write {name}/…")


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
        made = retrying(
            lambda: api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True),
            what=f"creating {repo_id}",
        )
        commit = retrying(
            lambda: api.upload_folder(
                repo_id=str(made.repo_id),
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
    except (OSError, UnicodeDecodeError):
        return False


def keep_wandb_offline_if_unreachable(seconds: float = 3.0) -> None:
    """Where wandb has a key but its server doesn't answer, set WANDB_MODE=offline with a warning: wandb itself would
    try for minutes and then end the run."""
    if logged_in_to_wandb() and (fault := unreachable(os.environ.get("WANDB_BASE_URL", WANDB), seconds)):
        os.environ["WANDB_MODE"] = "offline"
        logger.warning(
            "wandb can't be reached (%s); this run is tracked without it, or offline where the YAML asks for it", fault
        )


def refuse_unreachable(
    name: str, key: str, *, kind: Literal["model", "dataset"] = "model", seconds: float = 3.0
) -> None:
    """For a name of the Hub, before the libraries that read it are loaded, which takes longer than anything here: raise
    InputError, beginning with `key`, where the Hub can't be asked and its cache holds nothing of that name."""
    from huggingface_hub import constants

    if _may_be_cached(name, kind):
        return
    if offline():
        why = _why_offline()
    elif fault := unreachable(constants.ENDPOINT, seconds):
        why = f"the Hub can't be reached ({fault})"
    else:
        return
    raise InputError(
        f"{key}: {name} is nothing on this disk, {why} and it isn't in the cache; mend the network, or give a path"
    )


def _may_be_cached(name: str, kind: str) -> bool:
    """Whether the clients' caches hold anything of that name; whether it is whole, the clients know."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}"
    if any((folder / "snapshots").glob("*/*")):
        return True
    if kind != "dataset":
        return False
    settings = sys.modules.get("datasets.config")
    prepared = os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets"
    cache = Path(settings.HF_DATASETS_CACHE if settings else prepared)
    return any(_plain(path.name) == _plain(name.replace("/", "___")) for path in cache.glob("*"))


def _plain(name: str) -> str:
    """A name as it is in spite of what `datasets` does to it: NoneSet becomes none_set."""
    return name.lower().replace("_", "")


def keep_hub_offline_if_unreachable(name: str | None = None, *, seconds: float = 3.0) -> None:
    """Where the Hub's server doesn't answer, keep its clients in this process to what is in their cache, with a
    warning: they themselves would try for minutes. To be called before a name is asked for; given one that can't be
    of the Hub, it does nothing."""
    from huggingface_hub import constants

    if name is not None and not is_hub_name(name):
        return
    if offline() or not (fault := unreachable(constants.ENDPOINT, seconds)):
        return
    logger.warning("the Hub can't be reached (%s); only what is in its cache can be used", fault)
    os.environ["HF_HUB_OFFLINE"] = os.environ[_UNREACHABLE] = "1"
    constants.HF_HUB_OFFLINE = True
    if settings := sys.modules.get("datasets.config"):
        settings.__dict__.update(HF_HUB_OFFLINE=True, HF_DATASETS_OFFLINE=True)


def tracker() -> Literal["wandb", "tensorboard"]:
    """Where runs are tracked when the YAML doesn't say: wandb if logged in, else TensorBoard files on disk."""
    return "wandb" if logged_in_to_wandb() else "tensorboard"


__all__ = [
    "check_push",
    "first_line",
    "is_hub_name",
    "keep_hub_offline_if_unreachable",
    "keep_wandb_offline_if_unreachable",
    "logged_in_to_wandb",
    "push_folder",
    "redact",
    "refuse_unreachable",
    "retrying",
    "tracker",
]
