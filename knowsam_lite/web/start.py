"""Starts the annotator's server: for the command until Ctrl-C, and for a notebook beside what it does."""

import asyncio
import secrets
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from knowsam_lite.errors import UserError
from knowsam_lite.web.annotator import Annotator, Wanted, open_annotator

LARGEST = 128 * 1024**2  # bytes of a request: the mask of the largest picture that is read


def annotate(folder: str | Path, height: int = 760, **wanted: Any) -> Any:
    """The page in a notebook, an IFrame of `height` px; `wanted`: fields of `Wanted`, such as run=Path("r").

    Notebook and browser have to be on one machine, for the page listens there alone. Raises UserError as the
    command `annotate` does.
    """
    from IPython.display import IFrame

    require_tornado()
    address = serve_in_thread(open_annotator(Path(folder), Wanted(**wanted)))
    return IFrame(address, width="100%", height=height)


def start(annotator: Annotator, port: int = 0) -> str:
    """Listen on 127.0.0.1, in the event loop that runs; returns the address of the page, token included.

    `port` 0 takes a free one. Raises UserError if the port is taken.
    """
    from tornado.httpserver import HTTPServer
    from tornado.netutil import bind_sockets

    from knowsam_lite.web.server import LOOPBACK, make_app

    if not 0 <= port < 1 << 16:
        raise UserError(f"found port {port}, expected one below 65536: leave out --port")
    try:
        sockets = bind_sockets(port, LOOPBACK)
    except OSError as error:
        raise UserError(
            f"found port {port} unusable ({error.strerror}), expected a free one: leave out --port"
        ) from None
    token = secrets.token_urlsafe(24)
    HTTPServer(make_app(annotator, token), max_buffer_size=LARGEST, max_body_size=LARGEST).add_sockets(
        sockets
    )
    return f"http://{LOOPBACK}:{sockets[0].getsockname()[1]}/?token={token}"


def serve(annotator: Annotator, port: int, told: Callable[[str], object]) -> None:
    """Serve until Ctrl-C; `told` is called with the address once the page can be opened."""

    async def forever() -> None:
        told(start(annotator, port))
        await asyncio.Event().wait()

    asyncio.run(forever())


def serve_in_thread(annotator: Annotator, port: int = 0) -> str:
    """Serve until this process ends, beside what it does; returns the address of the page."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="annotate", daemon=True).start()

    async def begin() -> str:
        return start(annotator, port)

    return asyncio.run_coroutine_threadsafe(begin(), loop).result()


def require_tornado() -> None:
    """Raise UserError, with the command, unless the package that serves the page is installed."""
    if find_spec("tornado") is None:
        raise UserError(
            "found no tornado, expected it to serve the page: run `pip install 'knowsam-lite[annotate]'`"
        )
