"""The annotator's server: for this machine, for whoever has the token, and for the listed pictures alone."""

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
from tornado.web import Application, HTTPError, RequestHandler

from knowsam_lite.errors import UserError
from knowsam_lite.web.annotator import Annotator
from knowsam_lite.web.clicks import Prompt
from knowsam_lite.web.demo import page_file
from knowsam_lite.web.masks import Changed

LOOPBACK = "127.0.0.1"
NAMES = {LOOPBACK, "localhost", "[::1]"}  # hosts that a browser on this machine may call it by
# Nothing but the page's own script and style runs, and only a notebook on this machine may frame it.
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors http://127.0.0.1:* http://localhost:*"
)
Value = TypeVar("Value")


class Workers:
    """Two threads: what takes seconds does not keep a click waiting."""

    def __init__(self) -> None:
        self._slow, self._quick = (ThreadPoolExecutor(1, f"annotate {name}") for name in ("slow", "quick"))

    async def slow(self, work: Callable[[], Value]) -> Value:
        """Embeddings and drafts, one after the other."""
        return await asyncio.wrap_future(self._slow.submit(work))

    async def quick(self, work: Callable[[], Value]) -> Value:
        """Pictures and answers to clicks, one after the other."""
        return await asyncio.wrap_future(self._quick.submit(work))


class Handler(RequestHandler):
    """Checks every request before anything else, and turns what the user can mend into one line of JSON."""

    def initialize(self, annotator: Annotator, token: str, workers: Workers) -> None:
        self.annotator, self.token, self.workers = annotator, token, workers
        self.nonce = secrets.token_hex(16)

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("X-Content-Type-Options", "nosniff")

    def prepare(self) -> None:
        """A foreign name in Host means that another site's name was made to lead here (DNS rebinding)."""
        host = urlsplit(f"//{self.request.host}")
        name = f"[{host.hostname}]" if ":" in (host.hostname or "") else host.hostname
        if name not in NAMES:
            raise HTTPError(403, reason=f"found Host {self.request.host[:80]!a}, expected {LOOPBACK}")
        if not secrets.compare_digest(self.given_token().encode(), self.token.encode()):
            raise HTTPError(403, reason="found no valid token, expected the address that the command printed")

    def given_token(self) -> str:
        return self.request.headers.get("Authorization", "").removeprefix("token ")

    @property
    def name(self) -> str:
        """The picture that is asked for; whether there is one of that name, the folder's list says."""
        return self.get_query_argument("image", "", strip=False)

    def send_labels(self, labels: np.ndarray, **about: Any) -> None:
        """One byte a pixel, and its size in the headers."""
        self.set_header("Content-Type", "application/octet-stream")
        height, width = labels.shape
        for key, value in {"height": height, "width": width, **about}.items():
            self.set_header(f"X-{key.capitalize()}", str(value))
        self.finish(np.ascontiguousarray(labels, np.uint8).tobytes())

    def write_error(self, status_code: int, **about: Any) -> None:
        error = about["exc_info"][1]
        if isinstance(error, Changed):
            self.set_status(412)
        elif isinstance(error, UserError):
            self.set_status(400)
        known = isinstance(error, UserError | HTTPError)
        line = " ".join(str(error if isinstance(error, UserError) else self._reason).splitlines())
        self.finish({"error": line if known else "the server failed; its terminal says how"})

    def log_exception(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, UserError):
            super().log_exception(kind, error, trace)


class Page(Handler):
    """The page itself, in one answer."""

    def given_token(self) -> str:
        return self.get_query_argument("token", "")

    def get(self) -> None:
        self.set_header("Content-Security-Policy", POLICY.format(nonce=self.nonce))
        page = page_file("annotate.html").replace("NONCE", self.nonce)
        for name in ("look.css", "annotate.css", "annotate.js", "canvas.js", "edits.js"):
            page = page.replace(f"/* {name} */", page_file(name))
        self.finish(page)


class Nothing(Handler):
    """Every other path."""

    def prepare(self) -> None:
        super().prepare()
        raise HTTPError(404, reason="found no such page, expected / with the token")


class About(Handler):
    def get(self) -> None:
        self.finish(json.dumps(self.annotator.about()))


class Picture(Handler):
    async def get(self) -> None:
        name = self.name
        png = await self.workers.quick(lambda: self.annotator.picture(name))
        self.set_header("Content-Type", "image/png")
        self.finish(png)


class Mask(Handler):
    def get(self) -> None:
        folder = self.annotator.folder
        self.send_labels(folder.labels(self.name), version=folder.version(self.name))

    def put(self) -> None:
        """Save; without If-Match over whatever is there."""
        folder, name = self.annotator.folder, self.name
        size = folder.data.image_size(folder.record(name))
        body = self.request.body
        if len(body) != size[0] * size[1]:
            raise UserError(
                f"found {len(body)} bytes for {size[1]} x {size[0]} pixels, expected one each: load it again"
            )
        labels = np.frombuffer(body, np.uint8).reshape(size)
        self.finish({"version": folder.save(name, labels, self.request.headers.get("If-Match"))})


class Draft(Handler):
    async def get(self) -> None:
        name = self.name
        if self.annotator.drafts is None:
            raise UserError("found no run, expected one for drafts: start with --run RUN")
        self.send_labels(await self.workers.slow(lambda: self.annotator.draft(name)))


class Prepare(Handler):
    async def post(self) -> None:
        name = self.name
        await self.workers.slow(lambda: self.annotator.prepare(name))
        self.finish({})


class Answer(Handler):
    async def post(self) -> None:
        """`[{"at": [x, y] or [x0, y0, x1, y1], "inside": true or false}, ...]` -> a byte a pixel, 0 or 1."""
        name, prompts = self.name, prompts_of(self.request.body)
        self.annotator.folder.record(name)
        if not self.annotator.clicks.knows(name):
            await self.workers.slow(lambda: self.annotator.prepare(name))
        answer, seconds = await self.workers.quick(
            lambda: timed(lambda: self.annotator.answer(name, prompts))
        )
        self.send_labels(answer, seconds=f"{seconds:.3f}")


def timed(work: Callable[[], Value]) -> tuple[Value, float]:
    """What `work` gives, and the seconds that it took."""
    began = time.perf_counter()
    value = work()
    return value, time.perf_counter() - began


def prompts_of(body: bytes) -> list[Prompt]:
    """The prompts of a request. Raises UserError unless each is a click or a box of finite numbers."""
    try:
        prompts = [Prompt(tuple(map(float, one["at"])), bool(one["inside"])) for one in json.loads(body)]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"found no prompts in the request ({error}), expected a list of them: reload the page"
        ) from None
    for prompt in prompts:
        if len(prompt.at) not in (2, 4) or not np.isfinite(prompt.at).all():
            raise UserError(
                f"found a prompt at {prompt.at}, expected two or four finite numbers: reload the page"
            )
    return prompts


def make_app(annotator: Annotator, token: str) -> Application:
    """The server's application; `token` has to be in the page's address and in every request of the page."""
    shared = {"annotator": annotator, "token": token, "workers": Workers()}
    paths = {
        "/": Page,
        "/api/about": About,
        "/api/picture": Picture,
        "/api/mask": Mask,
        "/api/draft": Draft,
        "/api/prepare": Prepare,
        "/api/answer": Answer,
    }
    rules = [(path, handler, shared) for path, handler in paths.items()]
    return Application(
        rules, default_handler_class=Nothing, default_handler_args=shared, log_function=lambda handler: None
    )
