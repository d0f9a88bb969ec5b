"""A server on this machine for whole archives, which misbehaves when told to."""

import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ArchiveServer(ThreadingHTTPServer):
    """Serves `files` by name; `faults` are worked off one a request, then everything is well."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.requests: list[str] = []

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class _Handler(BaseHTTPRequestHandler):
    server: ArchiveServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.lstrip("/").removeprefix("moved/")
        self.server.requests.append(self.path)
        fault = self.server.faults.pop(0) if self.server.faults else ""
        body = self.server.files.get(name)
        if body is None or fault.isdigit():
            return self.send_error(int(fault or 404))
        if fault == "redirect":
            self.send_response(302)
            self.send_header("Location", f"/moved/{name}")
            return self.end_headers()
        if fault == "wrong bytes":
            body = bytes(len(body))
        self.send_response(200)  # whatever Range asks for: this server knows none
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/zip")
        self.end_headers()
        if fault == "truncated":
            body = body[: len(body) // 2]
        if fault == "slow":
            for start in range(0, len(body), len(body) // 4):
                self.wfile.write(body[start : start + len(body) // 4])
                time.sleep(0.05)
            return None
        self.wfile.write(body)
        return None
