"""JupyterLab on 127.0.0.1 and a headless Chromium that opens it; both end with their `with` blocks."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jupyterlab
from helpers.chapters import ROOT
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--window-size=1400,1000",
)
# All cells in the page, not only those in sight; and nothing is fetched.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


def browser_is_here() -> bool:
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


@contextmanager
def server(folder: Path, state: Path) -> Iterator[str]:
    """JupyterLab over `folder`, its own files in `state`: the address with a place for a notebook's name."""
    for name, values in SETTINGS.items():
        path = state / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    python = Path(jupyterlab.__file__).parents[4] / "bin" / "python"  # where its static files lie
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": folder,
        "ServerApp.open_browser": False,
        "ServerApp.allow_root": True,
        "IdentityProvider.token": token,
        "LabApp.expose_app_in_browser": True,
        "LabApp.extension_manager": "readonly",
    }
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "KNOWSAM_LITE_BUDGET": "smoke",
        "JUPYTERLAB_SETTINGS_DIR": str(state / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(state / "workspaces"),
        "IPYTHONDIR": str(state / "ipython"),
    }
    for name in ("CONFIG", "DATA", "RUNTIME"):
        environment[f"JUPYTER_{name}_DIR"] = str(state / name.lower())
    with open(state / "server.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [python, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a kill ends the server, too
    try:
        _wait_for(f"http://127.0.0.1:{port}/api?token={token}", process, state / "server.log")
        yield f"http://127.0.0.1:{port}/lab/tree/{{}}?reset&token={token}"
    finally:
        signal.signal(signal.SIGTERM, before)
        process.terminate()
        try:
            process.wait(20)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # kernels that are left


def _wait_for(address: str, process: subprocess.Popen, log: Path, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.5)
    raise AssertionError(f"no JupyterLab after {seconds} s:\n{log.read_text('utf8')[-2000:]}")


@contextmanager
def browser(state: Path) -> Iterator[webdriver.Chrome]:
    """Chromium without a window, with a profile of its own in `state`."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={state / 'profile'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        driver.set_page_load_timeout(120)
        driver.set_script_timeout(600)
        yield driver
    finally:
        driver.quit()


def keep(driver: webdriver.Chrome, name: str) -> None:
    """Keep what the browser shows where KNOWSAM_LITE_SCREENSHOTS says, to look at."""
    if "KNOWSAM_LITE_SCREENSHOTS" in os.environ:
        folder = Path(os.environ["KNOWSAM_LITE_SCREENSHOTS"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").write_bytes(driver.get_screenshot_as_png())


def open_notebook(driver: webdriver.Chrome, address: str, name: str) -> None:
    """Open a notebook and wait until all its cells stand in the page and its kernel is ready."""
    driver.get(address.format(name))
    ready = """
        const app = window.jupyterapp;
        const panels = app ? [...app.shell.widgets('main')] : [];
        const panel = panels.find(w => w.context && w.context.path === arguments[0]);
        if (!panel || !panel.context.isReady || !panel.content.widgets) return false;
        const session = panel.context.sessionContext.session;
        const cells = panel.content.widgets;
        return !!session && !!session.kernel && session.kernel.status === 'idle'
            && cells.length > 10 && cells.every(cell => cell.node.isConnected);
    """
    WebDriverWait(driver, 300, 0.5).until(lambda d: d.execute_script(ready, name))
    driver.execute_script("window.jupyterapp.shell.collapseLeft()")


def end_kernels(driver: webdriver.Chrome) -> None:
    """Shut down every kernel: each holds PyTorch in memory."""
    driver.execute_async_script(
        "const done = arguments[0];"
        "window.jupyterapp.serviceManager.sessions.shutdownAll().then(() => done(), e => done(String(e)));"
    )


def run_all(driver: webdriver.Chrome) -> None:
    """Run every cell and wait for the end."""
    driver.execute_async_script(
        "const done = arguments[0];"
        "window.jupyterapp.commands.execute('notebook:run-all-cells').then(done, e => done(String(e)));"
    )
