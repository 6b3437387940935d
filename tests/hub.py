"""An in-process stand-in for the Hugging Face Hub, spoken to by the real clients through HF_ENDPOINT.

    with HubStandIn() as hub:
        hub.add_dataset("org/set", {"SFT": {"train": table}})           # parquet files and a card, one shard a table
        hub.add_repo("org/model", {"config.json": "{}"}, repo_type="model")
        hub.fail(2, status=429, match="GET .*parquet", retry_after=1)   # the next two such requests fail
        hub.cut(1, match="PUT /lfs/", after_bytes=100)                  # the next one breaks off in the middle
        subprocess.run([...], env={**os.environ, **hub.env(tmp_path)})
        hub.repo("me/pushed", "dataset").files["README.md"]             # bytes; .commits: message and paths of each
        hub.table("me/pushed", "data/*.parquet")                        # a pushed dataset as a pyarrow table
        [r for r in hub.requests if r.method == "GET"]                  # everything that was asked, with its status

Stored in memory: models and datasets, files, commits (each keeps its own snapshot, `main` is the newest), LFS objects.
Spoken: repository info, tree, paths-info, resolve (HEAD, GET, Range), create_repo, validate-yaml, preupload, LFS batch,
upload and verify, commit, refs, branches and tags (accepted), whoami. Writing needs the bearer token that `env` sets;
other tokens get 401; its owner is `tester`, who may write into `me`. Not spoken: Xet (`env` switches it off, the
clients then use LFS), pull requests, spaces.
As a fixture: `hub`, or `at_standin` where the clients in the test's own process are to talk to it, known to every test
through conftest.py.
"""

import base64
import fnmatch
import hashlib
import io
import json
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

LFS_FROM = 10_000  # bytes; the real Hub goes by size and name as well
LFS_NAMES = (".parquet", ".safetensors", ".bin", ".pt", ".arrow")


@dataclass
class Commit:
    oid: str
    message: str
    paths: list[str]
    snapshot: dict[str, bytes] = field(repr=False)


@dataclass
class Repo:
    repo_id: str
    repo_type: str
    private: bool = False
    commits: list[Commit] = field(default_factory=list)

    @property
    def files(self) -> dict[str, bytes]:
        """Content of `main` by path."""
        return self.commits[-1].snapshot

    @property
    def sha(self) -> str:
        return self.commits[-1].oid

    def at(self, revision: str) -> dict[str, bytes] | None:
        if revision in ("main", "refs/heads/main"):
            return self.files
        return next((c.snapshot for c in self.commits if c.oid == revision), None)

    def commit(self, message: str, snapshot: dict[str, bytes], paths: list[str]) -> Commit:
        seed = f"{self.repo_type}{self.repo_id}{len(self.commits)}{message}"
        made = Commit(hashlib.sha1(seed.encode()).hexdigest(), message, paths, snapshot)
        self.commits.append(made)
        return made


@dataclass
class Request:
    method: str
    path: str
    status: int
    range: str | None
    at: float


@dataclass
class _Fault:
    pattern: re.Pattern[str]
    times: int
    skip: int
    status: int | None = None
    retry_after: int | None = None
    after_bytes: int = 0


class HubStandIn:
    """The server; see the module's docstring. A context manager; every method may be called while it serves."""

    def __init__(self, token: str = "hf_standin") -> None:
        self.token = token
        self.repos: dict[tuple[str, str], Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self._faults: list[_Fault] = []
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "HubStandIn":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def env(self, home: Path, *, token: str | None = None) -> dict[str, str]:
        """Variables that send the real clients here, with caches under `home` and short pauses between attempts."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home / "hf_home"),
            "HF_TOKEN": self.token if token is None else token,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "TRLM_RETRY_BASE_S": "0.05",
        }

    def add_repo(
        self,
        repo_id: str,
        files: Mapping[str, bytes | str | Path],
        *,
        repo_type: str = "dataset",
        private: bool = False,
    ) -> Repo:
        """Store a repository with these files as its first commit."""
        content = {path: _as_bytes(value) for path, value in files.items()}
        repo = Repo(repo_id, repo_type, private)
        repo.commit("first", content, list(content))
        self.repos[repo_type, repo_id] = repo
        return repo

    def add_dataset(self, repo_id: str, subsets: Mapping[str, Mapping[str, pa.Table | list[pa.Table]]]) -> Repo:
        """Store a dataset as parquet: `{subset: {split: table, or a list of one table a shard}}`."""
        files: dict[str, bytes] = {}
        configs = []
        for subset, splits in subsets.items():
            data_files = []
            for split, tables in splits.items():
                shards = tables if isinstance(tables, list) else [tables]
                for i, table in enumerate(shards):
                    sink = io.BytesIO()
                    pq.write_table(table, sink, row_group_size=100)
                    files[f"{subset}/{split}-{i:05d}-of-{len(shards):05d}.parquet"] = sink.getvalue()
                data_files.append({"split": split, "path": f"{subset}/{split}-*.parquet"})
            configs.append({"config_name": subset, "data_files": data_files})
        files["README.md"] = f"---\n{yaml.safe_dump({'configs': configs})}---\n".encode()
        return self.add_repo(repo_id, files)

    def repo(self, repo_id: str, repo_type: str = "dataset") -> Repo:
        """A stored or pushed repository. Raises KeyError when there is none."""
        return self.repos[repo_type, repo_id]

    def table(self, repo_id: str, pattern: str = "*.parquet") -> pa.Table:
        """The parquet files of a dataset whose paths match, in order of path, as one table."""
        files = sorted((p, c) for p, c in self.repo(repo_id).files.items() if fnmatch.fnmatch(p, pattern))
        return pa.concat_tables([pq.read_table(io.BytesIO(content)) for _, content in files])

    def fail(
        self, times: int = 1, *, status: int = 500, match: str = ".*", skip: int = 0, retry_after: int | None = None
    ) -> None:
        """Answer the next `times` requests whose "METHOD /path" matches with `status`, after letting `skip` pass."""
        self._faults.append(_Fault(re.compile(match), times, skip, status=status, retry_after=retry_after))

    def cut(self, times: int = 1, *, match: str = "GET .*/resolve/", skip: int = 0, after_bytes: int = 0) -> None:
        """Break the connection of the next `times` matching requests: the answer stops after so many body bytes."""
        self._faults.append(_Fault(re.compile(match), times, skip, after_bytes=after_bytes))

    def mend(self) -> None:
        """Forget the faults that are still to come."""
        self._faults.clear()

    def next_fault(self, line: str) -> _Fault | None:
        with self.lock:
            for fault in self._faults:
                if fault.times and fault.pattern.match(line):
                    if fault.skip:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    with HubStandIn() as server:
        yield server


@pytest.fixture
def at_standin(hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubStandIn:
    """The Hub's clients in this process talk to the stand-in, with caches of their own."""
    import datasets.config
    import huggingface_hub.constants as constants
    import transformers.utils.hub
    from huggingface_hub.hf_api import api

    for name, value in hub.env(tmp_path).items():
        monkeypatch.setenv(name, value)
    # Each is made once a process and keeps the address that it found then: that of another test's stand-in.
    monkeypatch.setattr(api, "endpoint", hub.url)
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    for name, value in (("ENDPOINT", hub.url), ("HF_HUB_OFFLINE", False), ("HF_HUB_CACHE", str(tmp_path / "hub"))):
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    for name, value in (("HF_ENDPOINT", hub.url), ("HF_DATASETS_CACHE", tmp_path / "sets"), ("HF_HUB_OFFLINE", False)):
        monkeypatch.setattr(datasets.config, name, value)
    return hub


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is forbidden, as by HF_HUB_OFFLINE=1, and nothing is in any cache."""
    import datasets.config
    import huggingface_hub.constants as constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "sets")


def _as_bytes(value: bytes | str | Path) -> bytes:
    if isinstance(value, Path):
        return value.read_bytes()
    return value.encode() if isinstance(value, str) else value


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _is_lfs(path: str, size: int) -> bool:
    return size > 0 and (size >= LFS_FROM or path.endswith(LFS_NAMES))


def _file_entry(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": _blob_id(content)}
    if _is_lfs(path, len(content)):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry


def _tree(files: Mapping[str, bytes], under: str, recursive: bool) -> list[dict[str, Any]]:
    prefix = f"{under.strip('/')}/" if under else ""
    entries: dict[str, dict[str, Any]] = {}
    for path, content in sorted(files.items()):
        if not path.startswith(prefix):
            continue
        parts = path[len(prefix) :].split("/")
        for depth in range(1, len(parts) if recursive else min(2, len(parts))):
            folder = prefix + "/".join(parts[:depth])
            entries[folder] = {"type": "directory", "path": folder, "size": 0, "oid": _blob_id(folder.encode())}
        if recursive or len(parts) == 1:
            entries[path] = _file_entry(path, content)
    return list(entries.values())


class _Handler(BaseHTTPRequestHandler):
    """One connection. A route is a method of this class found by the shape of the path."""

    hub: HubStandIn
    protocol_version = "HTTP/1.1"
    ROUTES = (
        (r"/api/repos/(create|delete)", "repos"),
        (r"/api/validate-yaml", "validate_yaml"),
        (r"/api/whoami-v2", "whoami"),
        (r"/api/(model|dataset)s/([^/]+/[^/]+|[^/]+)", "info"),
        (r"/api/(model|dataset)s/([^/]+/[^/]+)/revision/([^/]+)", "info"),
        (r"/api/(model|dataset)s/([^/]+/[^/]+)/tree/([^/]+)(?:/(.*))?", "tree"),
        (r"/api/(model|dataset)s/([^/]+/[^/]+)/paths-info/([^/]+)", "paths_info"),
        (r"/api/(model|dataset)s/([^/]+/[^/]+)/preupload/([^/]+)", "preupload"),
        (r"/api/(model|dataset)s/([^/]+/[^/]+)/commit/([^/]+)", "commit"),
        (r"/api/(model|dataset)s/([^/]+/[^/]+)/commits/([^/]+)", "history"),
        (r"/api/(model|dataset)s/([^/]+/[^/]+)/refs", "refs"),
        (r"/api/(model|dataset)s/([^/]+/[^/]+)/(?:branch|tag)/(.+)", "accept"),
        (r"/lfs/(upload|verify)(?:/(\w+))?", "lfs_object"),
        (r"/(?:(datasets)/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", "lfs_batch"),
        (r"/(?:(datasets)/)?([^/]+/[^/]+)/(?:resolve|raw)/([^/]+)/(.+)", "resolve"),
    )

    def _serve(self) -> None:
        self.body = self._read_body()
        self.cut_after: int | None = None
        self.path_only = unquote(urlsplit(self.path).path)
        self.query = parse_qs(urlsplit(self.path).query)
        fault = self.hub.next_fault(f"{self.command} {self.path_only}")
        if fault is not None and fault.status is not None:
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            self._json({"error": "injected fault"}, fault.status, headers)
            return
        if fault is not None:
            self.cut_after = fault.after_bytes
        for pattern, name in self.ROUTES:
            if match := re.fullmatch(pattern, self.path_only):
                getattr(self, f"_{name}")(*match.groups())
                return
        self._json({"error": f"the stand-in doesn't know {self.command} {self.path_only}"}, 404)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def log_message(self, *_: object) -> None:
        """Tests look at `hub.requests` instead."""

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None, length: int = -1) -> None:
        self.hub.requests.append(
            Request(
                self.command,
                self.path_only,
                status if self.cut_after is None else 0,
                self.headers.get("Range"),
                time.time(),
            )
        )
        if self.cut_after is not None and not self.cut_after:
            self._break_off()
            return
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length < 0 else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: self.cut_after] if self.cut_after is not None else body)
        if self.cut_after is not None:
            self._break_off()

    def _break_off(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _json(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _missing(self, code: str, what: str) -> None:
        self._json({"error": what}, 404, {"X-Error-Code": code, "X-Error-Message": what})

    def _may_write(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {self.hub.token}":
            return True
        self._json({"error": "Invalid credentials in Authorization header"}, 401)
        return False

    def _find(self, repo_type: str, repo_id: str, revision: str = "main") -> tuple[Repo, dict[str, bytes]] | None:
        repo = self.hub.repos.get((repo_type, repo_id))
        if repo is None:
            self._missing("RepoNotFound", f"Repository {repo_id} not found")
            return None
        files = repo.at(revision)
        if files is None:
            self._missing("RevisionNotFound", f"Revision {revision} not found")
            return None
        return repo, files

    # -- routes ------------------------------------------------------------------------------------------------------

    def _repos(self, action: str) -> None:
        if not self._may_write():
            return
        asked = json.loads(self.body)
        owner = asked.get("organization") or "tester"
        key = (asked.get("type") or "model", f"{owner}/{asked['name']}")
        prefix = "datasets/" if key[0] == "dataset" else ""
        answer = {"url": f"{self.hub.url}/{prefix}{key[1]}", "name": key[1]}
        with self.hub.lock:
            if action == "delete":
                self.hub.repos.pop(key, None)
            elif key in self.hub.repos:
                self._json({**answer, "error": "You already created this repo"}, 409)
                return
            else:
                private = asked.get("visibility") == "private" or bool(asked.get("private"))
                repo = self.hub.repos[key] = Repo(key[1], key[0], private)
                repo.commit("initial commit", {".gitattributes": b""}, [".gitattributes"])
        self._json(answer)

    def _validate_yaml(self) -> None:
        head = re.match(r"---\n(.*?)\n---", json.loads(self.body)["content"], re.DOTALL)
        try:
            yaml.safe_load(head[1] if head else "")
        except yaml.YAMLError as error:
            self._json({"errors": [{"message": str(error)}], "warnings": []}, 400)
        else:
            self._json({"errors": [], "warnings": []})

    def _whoami(self) -> None:
        if self._may_write():
            mine = [{"type": "org", "name": "me", "roleInOrg": "write"}]
            login = {"type": "user", "name": "tester", "fullname": "Tester", "auth": {"type": "access_token"}}
            self._json({**login, "orgs": mine})

    def _info(self, repo_type: str, repo_id: str, revision: str = "main") -> None:
        if not (found := self._find(repo_type, repo_id, revision)):
            return
        repo, files = found
        self._json(
            {
                "id": repo_id,
                "modelId": repo_id,
                "sha": repo.sha if revision == "main" else revision,
                "private": repo.private,
                "gated": False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "lastModified": "2026-01-01T00:00:00.000Z",
                "createdAt": "2026-01-01T00:00:00.000Z",
                "siblings": [{"rfilename": path} for path in sorted(files)],
            }
        )

    def _tree(self, repo_type: str, repo_id: str, revision: str, under: str | None) -> None:
        if found := self._find(repo_type, repo_id, revision):
            recursive = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
            entries = _tree(found[1], under or "", recursive)
            if entries or not under:
                self._json(entries)
            else:
                self._missing("EntryNotFound", f"{under} does not exist")

    def _paths_info(self, repo_type: str, repo_id: str, revision: str) -> None:
        if not (found := self._find(repo_type, repo_id, revision)):
            return
        if "json" in self.headers.get("Content-Type", ""):
            paths = json.loads(self.body)["paths"]
        else:
            paths = parse_qs(self.body.decode()).get("paths", [])
        known = {e["path"]: e for e in _tree(found[1], "", recursive=True)}
        wanted = [paths] if isinstance(paths, str) else paths
        self._json([known[p.strip("/")] for p in wanted if p.strip("/") in known])

    def _preupload(self, repo_type: str, repo_id: str, revision: str) -> None:
        if not self._may_write() or not (found := self._find(repo_type, repo_id, revision)):
            return
        answer = []
        for file in json.loads(self.body)["files"]:
            old = found[1].get(file["path"])
            lfs = _is_lfs(file["path"], file["size"])
            oid = None if old is None else hashlib.sha256(old).hexdigest() if lfs else _blob_id(old)
            mode = "lfs" if lfs else "regular"
            answer.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": answer})

    def _lfs_batch(self, _datasets: str | None, _repo_id: str) -> None:
        if not self._may_write():
            return
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            made = {"oid": wanted["oid"], "size": wanted["size"], "authenticated": True}
            if wanted["oid"] not in self.hub.lfs:
                made["actions"] = {
                    "upload": {"href": f"{self.hub.url}/lfs/upload/{wanted['oid']}", "header": {}},
                    "verify": {"href": f"{self.hub.url}/lfs/verify", "header": {}},
                }
            objects.append(made)
        self._json({"transfer": "basic", "objects": objects})

    def _lfs_object(self, action: str, oid: str | None) -> None:
        if action == "upload" and hashlib.sha256(self.body).hexdigest() != oid:
            self._json({"error": "the content doesn't have this sha256"}, 400)
            return
        if action == "upload" and self.cut_after is None:
            self.hub.lfs[str(oid)] = self.body
        self._json({}, 200 if action == "upload" or json.loads(self.body)["oid"] in self.hub.lfs else 404)

    def _commit(self, repo_type: str, repo_id: str, revision: str) -> None:
        if not self._may_write() or not (found := self._find(repo_type, repo_id, revision)):
            return
        lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        with self.hub.lock:
            repo, files = found[0], dict(found[0].files)
            try:
                paths = list(_apply(lines, files, self.hub.lfs))
            except KeyError as error:
                self._json({"error": f"LFS object {error} was never uploaded"}, 400)
                return
            summary = next(line["value"]["summary"] for line in lines if line["key"] == "header")
            made = repo.commit(summary, files, paths)
        prefix = "datasets/" if repo_type == "dataset" else ""
        self._json(
            {"success": True, "commitOid": made.oid, "commitUrl": f"{self.hub.url}/{prefix}{repo_id}/commit/{made.oid}"}
        )

    def _history(self, repo_type: str, repo_id: str, revision: str) -> None:
        if found := self._find(repo_type, repo_id, revision):
            date = "2026-01-01T00:00:00.000Z"
            self._json(
                [
                    {"id": c.oid, "title": c.message, "message": "", "authors": [{"user": "tester"}], "date": date}
                    for c in reversed(found[0].commits)
                ]
            )

    def _refs(self, repo_type: str, repo_id: str) -> None:
        if found := self._find(repo_type, repo_id):
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": found[0].sha}
            self._json({"branches": [main], "tags": [], "converts": []})

    def _accept(self, *_: str) -> None:
        if self._may_write():
            self._json({})

    def _resolve(self, datasets: str | None, repo_id: str, revision: str, path: str) -> None:
        if not (found := self._find("dataset" if datasets else "model", repo_id, revision)):
            return
        repo, files = found
        if path not in files:
            self._missing("EntryNotFound", f"{path} does not exist")
            return
        content = files[path]
        etag = hashlib.sha256(content).hexdigest() if _is_lfs(path, len(content)) else _blob_id(content)
        headers = {
            "X-Repo-Commit": repo.sha if revision == "main" else revision,
            "ETag": f'"{etag}"',
            "X-Linked-Etag": f'"{etag}"',
            "X-Linked-Size": str(len(content)),
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        if self.command == "HEAD":
            self._send(b"", 200, headers, length=len(content))
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            self._send(content, 200, headers)
            return
        start, end = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
        if start >= len(content):
            self._send(b"", 416, {"Content-Range": f"bytes */{len(content)}"})
            return
        headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        self._send(content[start : end + 1], 206, headers)


def _apply(lines: Iterable[dict[str, Any]], files: dict[str, bytes], lfs: Mapping[str, bytes]) -> Iterator[str]:
    """Carry a commit's operations out on `files`; yields the paths that they touch."""
    for line in lines:
        value = line["value"]
        match line["key"]:
            case "file":
                files[value["path"]] = base64.b64decode(value["content"])
            case "lfsFile":
                files[value["path"]] = lfs[value["oid"]]
            case "deletedFile":
                files.pop(value["path"], None)
            case "deletedFolder":
                for path in [p for p in files if p.startswith(value["path"].strip("/") + "/")]:
                    del files[path]
            case _:
                continue
        yield value["path"]


__all__ = ["Commit", "HubStandIn", "Repo", "Request", "hub"]
