"""The part of the Hugging Face Hub's HTTP interface that its library uses to push and fetch models, on loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_stand_in"
USER = "someone"


@dataclass
class Repository:
    """Its commits, each the whole of its files."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    head: str = ""

    def commit(self, files: dict[str, bytes]) -> str:
        self.head = hashlib.sha1(json.dumps([len(self.commits), sorted(files)]).encode()).hexdigest()
        self.commits[self.head] = files
        return self.head


@dataclass
class StandIn:
    """The hub's state, and what was asked of it."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def files(self, repo: str) -> dict[str, bytes]:
        found = self.repositories[repo]
        return found.commits[found.head]


@contextmanager
def hub_stand_in() -> Iterator[StandIn]:
    state = StandIn()

    class Handler(Answers):
        hub = state

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


class Answers(BaseHTTPRequestHandler):
    """One request."""

    hub: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for pattern, method in ROUTES:
            match = re.fullmatch(pattern, path)
            if match:
                return method(self, body, **match.groupdict())
        return self.refuse(404, "EntryNotFound")

    def reply(self, content: Any, status: int = 200, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status: int, code: str = "") -> None:
        self.reply({"error": code}, status, **({"X_Error_Code": code, "X_Error_Message": code} if code else {}))

    @property
    def known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def visible(self, repo: str, revision: str) -> dict[str, bytes] | None:
        """The files at a revision; None where the request has been refused."""
        found = self.hub.repositories.get(repo)
        if found is None or (found.private and not self.known):
            self.refuse(404 if self.known else 401, "RepoNotFound")
        elif found.gated:
            self.refuse(403, "GatedRepo")
        elif (revision if revision != "main" else found.head) not in found.commits:
            self.refuse(404, "RevisionNotFound")
        else:
            return found.commits[revision if revision != "main" else found.head]
        return None

    def whoami(self, body: bytes) -> None:
        self.reply({"name": USER, "type": "user", "auth": {}}) if self.known else self.refuse(401)

    def create(self, body: bytes) -> None:
        about = json.loads(body)
        owner = about.get("organization") or USER
        if not self.known or owner != USER:
            return self.refuse(401 if not self.known else 403)
        repo = f"{owner}/{about['name']}"
        if repo in self.hub.repositories:
            return self.reply({"error": "exists", "url": f"{self.hub.url}/{repo}"}, 409)
        self.hub.repositories[repo] = Repository(private=about.get("private") or about.get("visibility") == "private")
        self.hub.repositories[repo].commit({".gitattributes": b""})
        return self.reply({"url": f"{self.hub.url}/{repo}", "name": repo, "id": "1"})

    def validate(self, body: bytes) -> None:
        self.reply({"errors": [], "warnings": []})

    def preupload(self, body: bytes, repo: str) -> None:
        files = [
            {"path": f["path"], "uploadMode": mode_of(f["path"]), "shouldIgnore": False, "oid": None}
            for f in json.loads(body)["files"]
        ]
        self.reply({"files": files})

    def batch(self, body: bytes, repo: str) -> None:
        upload = lambda oid: {"upload": {"href": f"{self.hub.url}/lfs/{oid}"}}  # noqa: E731
        objects = [{**each, "actions": upload(each["oid"])} for each in json.loads(body)["objects"]]
        self.reply({"transfer": "basic", "objects": objects})

    def store(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.large[oid] = body
        self.reply({})

    def commit(self, body: bytes, repo: str) -> None:
        found = self.hub.repositories[repo]
        files = dict(found.commits[found.head])
        for line in body.splitlines():
            each = json.loads(line)
            value = each["value"]
            if each["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif each["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif each["key"] == "deletedFile":
                del files[value["path"]]
        oid = found.commit(files)
        self.reply({"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{repo}/commit/{oid}"})

    def info(self, body: bytes, repo: str, revision: str | None = None) -> None:
        files = self.visible(repo, revision or "main")
        if files is not None:
            found = self.hub.repositories[repo]
            sha = found.head if revision in (None, "main") else revision
            about = {"id": repo, "modelId": repo, "private": found.private, "tags": [], "downloads": 0, "likes": 0}
            self.reply({**about, "sha": sha, "siblings": [{"rfilename": name} for name in files]})

    def tree(self, body: bytes, repo: str, revision: str) -> None:
        files = self.visible(repo, revision)
        if files is not None:
            oid = lambda content: hashlib.sha1(content).hexdigest()  # noqa: E731
            self.reply([{"type": "file", "path": n, "size": len(c), "oid": oid(c)} for n, c in files.items()])

    def resolve(self, body: bytes, repo: str, revision: str, name: str) -> None:
        files = self.visible(repo, revision)
        if files is None:
            return
        if name not in files:
            return self.refuse(404, "EntryNotFound")
        commit = self.hub.repositories[repo].head if revision == "main" else revision
        self.reply(files[name], ETag=f'"{hashlib.sha1(files[name]).hexdigest()}"', X_Repo_Commit=commit)


def mode_of(path: str) -> str:
    return "lfs" if path.endswith((".safetensors", ".png")) else "regular"


_REPO = r"(?P<repo>[^/]+/[^/]+)"
ROUTES = [
    (r"/api/whoami-v2", Answers.whoami),
    (r"/api/repos/create", Answers.create),
    (r"/api/validate-yaml", Answers.validate),
    (rf"/api/models/{_REPO}/preupload/main", Answers.preupload),
    (rf"/api/models/{_REPO}/commit/main", Answers.commit),
    (rf"/api/models/{_REPO}/revision/(?P<revision>[^/]+)", Answers.info),
    (rf"/api/models/{_REPO}/tree/(?P<revision>[^/]+)", Answers.tree),
    (rf"/api/models/{_REPO}", Answers.info),
    (rf"/{_REPO}\.git/info/lfs/objects/batch", Answers.batch),
    (r"/lfs/(?P<oid>\w+)", Answers.store),
    (rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", Answers.resolve),
]
