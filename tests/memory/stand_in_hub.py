"""A stand-in of the hub's HTTP interface, on this machine: as much as huggingface_hub asks for when
a memory is pushed and fetched. It can refuse, damage and break off on demand."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_right"


@dataclass
class Repository:
    """Commits by their hash, each a whole tree, and what branches and tags name."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def commit(self, tree: dict[str, bytes], revision: str = "main") -> str:
        text = repr((len(self.commits), sorted(tree.items()))).encode()
        oid = hashlib.sha1(text).hexdigest()
        self.commits[oid] = dict(tree)
        self.names[revision] = oid
        return oid


@dataclass
class Hub:
    """What the server holds and was asked for; `break_off` and `flip` name files to damage."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    break_off: str = ""
    flip: str = ""
    refuse: dict[str, int] = field(default_factory=dict)  # a piece of a path: the status

    def tree(self, name: str, revision: str = "main") -> dict[str, bytes]:
        found = self.repositories[name]
        return found.commits[found.names.get(revision, revision)]


@contextmanager
def stand_in_hub() -> Iterator[Hub]:
    """A hub of its own on a free port."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    # ------------------------------------------------------------------ answers

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, document: Any, status: int = 200, **headers: str) -> None:
        self._answer(
            status, json.dumps(document).encode(), Content_Type="application/json", **headers
        )

    def _no(self, status: int, code: str, message: str, **more: str) -> None:
        self._json({"error": message}, status, X_Error_Code=code, X_Error_Message=message, **more)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    # ------------------------------------------------------------------ questions

    def do_HEAD(self) -> None:
        self._route(b"")

    def do_GET(self) -> None:
        self._route(b"")

    def do_POST(self) -> None:
        self._route(self._body())

    def do_PUT(self) -> None:
        self._route(self._body())

    def _route(self, body: bytes) -> None:
        path = urlsplit(self.path).path
        self.hub.asked.append(f"{self.command} {path}")
        for piece, status in self.hub.refuse.items():
            if piece in path:
                self._no(status, "", "not today")
                return
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[:3] == ["api", "repos", "create"]:
            self._create(json.loads(body))
        elif parts[:2] == ["api", "validate-yaml"]:
            self._json({"errors": [], "warnings": []})
        elif parts[:2] == ["api", "models"]:
            self._models(f"{parts[2]}/{parts[3]}", parts[4:], body)
        elif parts[0] == "uploads":
            self.hub.uploads[parts[1]] = body
            self._answer(200)
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._batch(json.loads(body))
        elif len(parts) > 4 and parts[2] == "resolve":
            self._resolve(f"{parts[0]}/{parts[1]}", parts[3], "/".join(parts[4:]))
        else:
            self._no(404, "", f"no such address {path}")

    def _token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _found(self, name: str) -> Repository | None:
        found = self.hub.repositories.get(name)
        if found is None or (found.private and not self._token()):
            status = 404 if self._token() else 401
            self._no(status, "RepoNotFound", "Repository not found")
            return None
        return found

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if not self._token():
            self._no(401, "", "Invalid username or password.")
        elif name in self.hub.repositories:
            self._json({"error": "exists", "url": f"{self.hub.address}/{name}"}, 409)
        else:
            private = wanted.get("private") or wanted.get("visibility") == "private"
            made = self.hub.repositories[name] = Repository(private=bool(private))
            made.commit({".gitattributes": b"*.safetensors filter=lfs\n"})
            self._json({"url": f"{self.hub.address}/{name}", "name": name})

    def _models(self, name: str, rest: list[str], body: bytes) -> None:
        found = self._found(name)
        if found is None:
            return
        if self.command == "POST" and not self._token():
            self._no(403, "", "You don't have the rights to write here.")
            return
        what = rest[0] if rest else "info"
        revision = "/".join(rest[1:]) or "main"
        if what == "branch":
            made = found.names.setdefault(rest[1], found.names["main"])
            self._json({"ref": made})
            return
        if what == "tree":
            revision = rest[1]
        commit = found.names.get(revision, revision)
        if commit not in found.commits:
            self._no(404, "RevisionNotFound", "Invalid rev id")
            return
        tree = found.commits[commit]
        if what in ("info", "revision"):
            self._json(
                {
                    "id": name,
                    "sha": commit,
                    "private": found.private,
                    "siblings": [{"rfilename": path} for path in tree],
                }
            )
        elif what == "tree":
            self._json([_entry(path, data) for path, data in tree.items()])
        elif what == "preupload":
            files = json.loads(body)["files"]
            self._json({"files": [_mode(one["path"]) for one in files]})
        elif what == "commit":
            self._commit(name, found, revision, commit, body)
        else:
            self._no(404, "", f"nothing known of {what}")

    def _commit(self, name: str, found: Repository, revision: str, head: str, body: bytes) -> None:
        tree = dict(found.commits[head])
        for line in body.splitlines():
            entry = json.loads(line)
            key, value = entry["key"], entry["value"]
            if key == "header" and value.get("parentCommit") not in (None, head):
                self._no(412, "", "A commit has happened since.")
                return
            if key == "file":
                assert value["encoding"] == "base64"
                tree[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                tree[value["path"]] = self.hub.uploads[value["oid"]]
            elif key == "deletedFile":
                del tree[value["path"]]
        oid = found.commit(tree, revision)
        address = f"{self.hub.address}/{name}/commit/{oid}"
        self._json({"success": True, "commitOid": oid, "commitUrl": address})

    def _batch(self, wanted: dict[str, Any]) -> None:
        objects = []
        for one in wanted["objects"]:
            answer = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.uploads:
                href = f"{self.hub.address}/uploads/{one['oid']}"
                answer["actions"] = {"upload": {"href": href}}
            objects.append(answer)
        self._json({"transfer": "basic", "objects": objects})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        found = self._found(name)
        if found is None:
            return
        commit = found.names.get(revision, revision)
        if commit not in found.commits:
            self._no(404, "RevisionNotFound", "Invalid rev id")
            return
        data = found.commits[commit].get(path)
        if data is None:
            self._no(404, "EntryNotFound", "Entry not found", X_Repo_Commit=commit)
            return
        headers = {
            "X_Repo_Commit": commit,
            "ETag": f'"{_etag(path, data)}"',
            "Accept_Ranges": "bytes",
        }
        if self.command == "GET" and self.hub.flip and path.startswith(self.hub.flip):
            data = bytes([*data[:-1], data[-1] ^ 1])
        start = 0
        if wanted := self.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        part = data[start:]
        if self.command == "GET" and self.hub.break_off and path.startswith(self.hub.break_off):
            self._answer(200, part[: len(part) // 2], Content_Length=str(len(part)), **headers)
            self.close_connection = True
            return
        if self.command == "HEAD":
            self._answer(200, Content_Length=str(len(data)), **headers)
        else:
            self._answer(206 if start else 200, part, **headers)


def _is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".png", ".jpg"))


def _mode(path: str) -> dict[str, Any]:
    mode = "lfs" if _is_large(path) else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}


def _etag(path: str, data: bytes) -> str:
    if _is_large(path):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "file",
        "path": path,
        "size": len(data),
        "oid": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
    }
    if _is_large(path):
        digest = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 130}
    return entry
