"""A Hugging Face hub on loopback: enough of its HTTP interface for the real clients, backed by a folder.

    ROOT/<kind>s/<owner>/<name>/<commit>/...    the files of a commit
    ROOT/<kind>s/<owner>/<name>/.refs.json      branches and what they point to
    ROOT/<kind>s/<owner>/<name>/.gated          there when only `TOKEN` may fetch files

As on the real hub, anybody may ask what a gated repository is, but its files are for those with access; a missing
repository answers 401 to somebody without a token and 404 to others. Over plain HTTP the clients go by the header
`X-Error-Code` alone, so it is always sent.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

Kind = Literal["dataset", "model"]
TOKEN = "hf_test"  # a password for nothing: the server listens on loopback only


@dataclass(frozen=True)
class Answer:
    """What goes back to a client."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """An answer other than success, with the header by which the clients tell what is wrong."""

    def __init__(self, status: int, code: str, message: str, commit: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.commit = status, code, message, commit

    def answer(self) -> Answer:
        """What goes back to the client."""
        headers = {"X-Error-Message": self.message, "X-Error-Code": self.code, "X-Repo-Commit": self.commit}
        body = json.dumps({"error": self.message}).encode()
        return Answer(body, {key: value for key, value in headers.items() if value})


@dataclass
class Hub:
    """Repositories in a folder, and what the clients asked.

    `breaks` gives for a file's path the number of bytes after which the connection breaks, once; a path in `broken`
    answers 500. `parts` has an entry for each time that the content of a file was asked for: its path and from which
    byte on.
    """

    root: Path
    endpoint: str = ""
    requests: list[str] = field(default_factory=list)
    breaks: dict[str, int] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    parts: list[tuple[str, int]] = field(default_factory=list)

    def add(self, kind: Kind, name: str, files: Mapping[str, str | bytes], branch: str = "main") -> str:
        """Commit files to a branch of a repository; returns the commit."""
        content = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
        digest = hashlib.sha1(name.encode())
        for path in sorted(content):
            digest.update(path.encode() + hashlib.sha256(content[path]).digest())
        commit = digest.hexdigest()
        folder = self.folder(kind, name)
        for path, data in content.items():
            target = folder / commit / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        refs = json.loads((folder / ".refs.json").read_text()) if (folder / ".refs.json").exists() else {}
        (folder / ".refs.json").write_text(json.dumps({**refs, branch: commit}))
        return commit

    def gate(self, kind: Kind, name: str) -> None:
        """From now on only `TOKEN` may fetch the files."""
        (self.folder(kind, name) / ".gated").touch()

    def folder(self, kind: str, name: str) -> Path:
        """Where a repository lies."""
        return self.root / f"{kind}s" / name

    def commit(self, kind: str, name: str, revision: str, token: str | None) -> str:
        """The commit a revision means."""
        folder = self.folder(kind, name)
        if not (folder / ".refs.json").is_file():
            if token is None:
                raise Refused(401, "RepoNotFound", "Invalid username or password.")
            raise Refused(404, "RepoNotFound", "Repository not found")
        refs: dict[str, str] = json.loads((folder / ".refs.json").read_text())
        commit = refs.get(revision, revision)
        if commit.startswith(".") or not (folder / commit).is_dir():
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def check_access(self, kind: str, name: str, token: str | None) -> None:
        """Refuse strangers the files of a gated repository."""
        if (self.folder(kind, name) / ".gated").exists() and token != TOKEN:
            raise Refused(401 if token is None else 403, "GatedRepo", f"Access to {kind} {name} is restricted.")

    def entries(self, kind: str, name: str, commit: str) -> dict[str, dict[str, Any]]:
        """Files and folders of a commit by path, as the tree and paths-info calls describe them."""
        folder = self.folder(kind, name) / commit
        found: dict[str, dict[str, Any]] = {}
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder).as_posix()
            oid = hashlib.sha1(path.read_bytes() if path.is_file() else relative.encode()).hexdigest()
            size = path.stat().st_size if path.is_file() else 0
            found[relative] = {
                "type": "file" if path.is_file() else "directory",
                "path": relative,
                "size": size,
                "oid": oid,
            }
        return found


@contextmanager
def serving(root: Path) -> Iterator[Hub]:
    """A hub for the length of a `with` block; afterwards nothing listens on its endpoint any more."""
    hub = Hub(root)
    server = _Server(hub)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name the base class gives it
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_POST(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        self.server.hub.requests.append(f"{self.command} {self.path}")
        form = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        try:
            answer, status = respond(self.server.hub, self.path, form, token), 200
        except Refused as error:
            answer, status = error.answer(), error.status
        body, first = answer.body, "0"
        if status == 200 and (asked := self.headers.get("Range")):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            body = body[int(first) : int(last) + 1 if last else None]
            status = 206
        path = unquote(urlsplit(self.path).path.partition("/resolve/")[2].partition("/")[2])
        if with_body and path:
            self.server.hub.parts.append((path, int(first)))
        self.send_response(status)
        for key, value in answer.headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            length = self.server.hub.breaks.pop(path, len(body))
            self.wfile.write(body[:length])
            self.close_connection = self.close_connection or length < len(body)


def respond(hub: Hub, url: str, form: str, token: str | None) -> Answer:
    """The answer to a request.

    Raises:
        Refused: it is not a plain success.
    """
    parts = urlsplit(url)
    words = [unquote(word) for word in parts.path.strip("/").split("/")]
    if words[0] == "api":
        kind, name, rest = words[1].removesuffix("s"), "/".join(words[2:4]), words[4:]
        recursive = parse_qs(parts.query).get("recursive", ["false"])[0].lower() in {"1", "true"}
        paths = parse_qs(form).get("paths", [])
        return Answer(
            json.dumps(_api(hub, (kind, name), rest, paths, token, recursive=recursive)).encode(),
            {"Content-Type": "application/json"},
        )
    kind = "dataset" if words[0] == "datasets" else "model"
    words = words[1:] if kind == "dataset" else words
    if len(words) < 5 or words[2] != "resolve":
        raise Refused(404, "", "Not found")
    return _file(hub, kind, "/".join(words[:2]), words[3], "/".join(words[4:]), token)


def _api(
    hub: Hub, repo: tuple[str, str], rest: list[str], paths: list[str], token: str | None, *, recursive: bool
) -> dict[str, Any] | list[dict[str, Any]]:
    kind, name = repo
    call = rest[0] if rest else "info"
    commit = hub.commit(kind, name, rest[1] if len(rest) > 1 else "main", token)
    if call in {"info", "revision"}:
        files = [path for path, entry in hub.entries(kind, name, commit).items() if entry["type"] == "file"]
        gated = "manual" if (hub.folder(kind, name) / ".gated").exists() else False
        return {
            "id": name,
            "sha": commit,
            "private": False,
            "gated": gated,
            "siblings": [{"rfilename": path} for path in files],
            "tags": [],
        }
    if call == "refs":
        refs = json.loads((hub.folder(kind, name) / ".refs.json").read_text())
        branches = [{"name": key, "ref": f"refs/heads/{key}", "targetCommit": value} for key, value in refs.items()]
        return {"branches": branches, "converts": [], "tags": []}
    hub.check_access(kind, name, token)
    if call == "auth-check":
        return {}
    entries = hub.entries(kind, name, commit)
    if call == "paths-info":
        return [entries[path.strip("/")] for path in paths if path.strip("/") in entries]
    if call == "tree":
        start = "".join(f"{word}/" for word in rest[2:])
        inside = [entry for path, entry in entries.items() if path.startswith(start)]
        if start and not inside:
            raise Refused(404, "EntryNotFound", f"{start} does not exist", commit)
        return [entry for entry in inside if recursive or "/" not in entry["path"].removeprefix(start)]
    raise Refused(404, "", f"No such call: {call}")


def _file(hub: Hub, kind: str, name: str, revision: str, path: str, token: str | None) -> Answer:
    commit = hub.commit(kind, name, revision, token)
    hub.check_access(kind, name, token)
    target = hub.folder(kind, name) / commit / path
    if path in hub.broken:
        raise Refused(500, "", "Internal error", commit)
    if ".." in Path(path).parts or not target.is_file():
        raise Refused(404, "EntryNotFound", "Entry not found", commit)
    body = target.read_bytes()
    return Answer(
        body, {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
    )
