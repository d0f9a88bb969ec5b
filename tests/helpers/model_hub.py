"""A model hub of one process: as much of huggingface.co's interface as `push` and `pull` use."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

SHA = "0" * 39 + "1"


@contextmanager
def model_hub() -> Iterator[tuple[str, dict[str, dict[str, bytes]], list[dict[str, Any]]]]:
    """Its address, its files by repository and name, and the repositories that it was asked to make."""
    held: dict[str, dict[str, bytes]] = {}
    made: list[dict[str, Any]] = []

    class Hub(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def json(self, value: Any) -> None:
            self.answer(json.dumps(value).encode(), Content_Type="application/json")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = self.path.split("?")[0].strip("/").split("/")
            if parts[:2] == ["api", "validate-yaml"]:
                return self.json({"errors": [], "warnings": []})
            if parts[:3] == ["api", "repos", "create"]:
                made.append(json.loads(body))
                return self.json({"url": f"{address}/{made[-1].get('organization', '')}/{made[-1]['name']}"})
            repository, what = "/".join(parts[2:4]), parts[4]
            if what == "preupload":
                files = json.loads(body)["files"]
                return self.json(
                    {
                        "files": [
                            {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
                        ]
                    }
                )
            rows = [json.loads(line) for line in body.splitlines()]
            for row in rows:
                if row["key"] == "file":
                    content = base64.b64decode(row["value"]["content"])
                    held.setdefault(repository, {})[row["value"]["path"]] = content
            self.json(
                {"success": True, "commitOid": SHA, "commitUrl": f"{address}/{repository}/commit/{SHA}"}
            )

        def do_GET(self) -> None:
            parts = self.path.split("?")[0].strip("/").split("/")
            if parts[0] == "api":
                files = held.get("/".join(parts[2:4]), {})
                return self.json(
                    {"id": "/".join(parts[2:4]), "sha": SHA, "siblings": [{"rfilename": f} for f in files]}
                )
            content = held.get("/".join(parts[:2]), {}).get("/".join(parts[4:]))
            if content is None:
                return self.answer(b"", 404, X_Error_Code="EntryNotFound" if held else "RepoNotFound")
            etag = hashlib.sha1(content).hexdigest()
            self.answer(content, ETag=f'"{etag}"', X_Repo_Commit=SHA)

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield address, held, made
    finally:
        server.shutdown()
        server.server_close()
