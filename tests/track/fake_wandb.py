"""The part of a W&B server that the real wandb-core speaks to, on the loopback interface.

GraphQL queries are answered by name. A file stream writes lines at an offset, as the real server does: what arrives twice
at the same place is there once.
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "local" + "0" * 40
OWNER = {"id": "1", "name": "me"}
STREAM = re.compile(r"/files/[^/]+/[^/]+/([^/]+)/file_stream")


class FakeWandb:
    """A running server. `runs`: what the clients said of each; `files`: the lines of each run's streams."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.files: dict[tuple[str, str], list[str]] = {}
        self.exit_codes: dict[str, int] = {}
        self.uploads: dict[str, bytes] = {}
        self.artifacts = 0  # versions that were committed
        self.views: dict[str, dict[str, Any]] = {}
        self.unknown: list[str] = []
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self.server.handle_error = lambda *_: None  # clients drop their idle connections when they end
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def environment(self) -> dict[str, str]:
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": KEY,
            "WANDB_MODE": "online",
            "WANDB_ERROR_REPORTING": "false",
        }

    def history(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.files.get((name, "wandb-history.jsonl"), [])]

    def summary(self, name: str) -> dict[str, Any]:
        return json.loads(self.files[name, "wandb-summary.json"][-1])

    def config(self, name: str) -> dict[str, Any]:
        return {key: item["value"] for key, item in self.runs[name]["config"].items()}

    def stream(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        for file, chunk in (body.get("files") or {}).items():
            lines, start = self.files.setdefault((name, file), []), chunk["offset"]
            lines[start : start + len(chunk["content"])] = chunk["content"]
        if body.get("complete"):
            self.exit_codes[name] = body["exitcode"]
        return {"exitcode": None, "limits": {}}

    def query(self, text: str, given: dict[str, Any]) -> dict[str, Any]:
        name = re.search(r"\b(?:query|mutation)\s+(\w+)", text)[1]
        answer = getattr(self, name, None)
        if answer is None:
            self.unknown.append(name)
        return {"data": answer(given) if answer else {}}

    def upload(self, *place: str) -> dict[str, Any]:
        return {"uploadUrl": "/".join([self.url, "upload", *place]), "uploadHeaders": []}

    def bucket(self, name: str) -> dict[str, Any]:
        run = self.runs[name]
        return {
            "id": name, "name": name, "displayName": run["displayName"], "description": "", "sweepName": None,
            "tags": run.get("tags") or [], "config": json.dumps(run["config"]),
            "project": {"id": "1", "name": run["project"], "entity": OWNER}, "historyLineCount": len(self.history(name)),
        }  # fmt: skip

    # One method a GraphQL operation, under the operation's name.

    def Viewer(self, given):
        return {"viewer": {**OWNER, "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}

    def ServerFeaturesQuery(self, given):
        return {"serverInfo": {"features": []}}

    def OrganizationCoreWeaveOrganizationID(self, given):
        return {"entity": {"organization": None}}

    def RunResumeStatus(self, given):
        name = given["name"]
        found = None
        if name in self.runs:
            count = {file: len(self.files.get((name, f"wandb-{file}.jsonl"), [])) for file in ("history", "events")}
            found = self.bucket(name) | {
                "historyTail": json.dumps(self.files.get((name, "wandb-history.jsonl"), [])[-1:]), "eventsTail": "[]",
                "summaryMetrics": self.files.get((name, "wandb-summary.json"), ["{}"])[-1], "wandbConfig": '{"t": 1}',
                "historyLineCount": count["history"], "eventsLineCount": count["events"],
                "logLineCount": len(self.files.get((name, "output.log"), [])),
            }  # fmt: skip
        return {"model": {"id": "1", "name": given["project"], "entity": OWNER, "bucket": found}}

    def UpsertBucket(self, given):
        new = given["name"] not in self.runs
        run = self.runs.setdefault(given["name"], {"config": {}, "project": "", "displayName": given["name"]})
        run |= {key: value for key, value in given.items() if value is not None and key != "config"}
        run["config"] |= json.loads(given.get("config") or "{}")
        return {"upsertBucket": {"bucket": self.bucket(given["name"]), "inserted": new}}

    def CreateRunFiles(self, given):
        files = [{"name": name, "uploadUrl": self.upload(given["run"], name)["uploadUrl"]} for name in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def ArtifactType(self, given):
        return {"project": {"artifact": None}}

    def CreateArtifact(self, given):
        sequence = {"id": "1", "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": "1", "state": "PENDING", "artifactSequence": sequence}}}

    def CreateArtifactManifest(self, given):
        file = {"id": "1", "name": "manifest", "displayName": "manifest", **self.upload("manifest")}
        return {"createArtifactManifest": {"artifactManifest": {"id": "1", "file": file}}}

    def UpdateArtifactManifest(self, given):
        return {"updateArtifactManifest": self.CreateArtifactManifest(given)["createArtifactManifest"]}

    def CreateArtifactFiles(self, given):
        wanted = (given.get("input") or given)["artifactFiles"]
        nodes = [
            {"node": {"id": name, "name": name, "displayName": name, "storagePath": name, "uploadMultipartUrls": None,
                      "artifact": {"id": "1"}, **self.upload("artifact", name)}}
            for name in (file["name"] for file in wanted)
        ]  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": nodes}}}

    def CommitArtifact(self, given):
        self.artifacts += 1
        return {"commitArtifact": {"artifact": {"id": "1", "digest": "x"}}}

    def UpsertView2(self, given):
        new = not given.get("id")
        view = self.views.setdefault(given.get("id") or f"view-{len(self.views)}", {})
        view |= given | {"id": given.get("id") or f"view-{len(self.views) - 1}"}
        return {"upsertView": {"inserted": new, "view": {"id": view["id"], "name": view["name"]}}}

    def View(self, given):
        views = [view for view in self.views.values() if view["name"] == given["viewName"]]
        return {"project": {"allViews": {"edges": [{"node": view} for view in views]}}}


def handler(fake: FakeWandb) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def answer(self, value: dict[str, Any], code: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_PUT(self) -> None:
            fake.uploads[self.path] = self.body()
            self.answer({})

        def do_POST(self) -> None:
            body = json.loads(self.body())
            with fake.lock:
                if self.path == "/graphql":
                    value, code = fake.query(body["query"], body.get("variables") or {}), 200
                elif place := STREAM.fullmatch(self.path):
                    value, code = fake.stream(place[1], body), 200
                else:
                    value, code = {}, 404
            self.answer(value, code)

    return Handler
