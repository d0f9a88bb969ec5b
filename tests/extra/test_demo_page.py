"""The demo's page in a real browser, opened as a file and from a static host.

Its masks are compared with those of `Predictor`; `-s` shows their Dice and the seconds an image.
KNOWSAM_LITE_SCREENSHOTS=DIR keeps pictures; KNOWSAM_LITE_TEST_RUN: a run to show instead of a short one.
"""

import os
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from lab import browser, browser_is_here, keep
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from knowsam_lite.cli import main
from knowsam_lite.data.images import read_image
from knowsam_lite.errors import UserError
from knowsam_lite.metrics import dice
from knowsam_lite.predict import Predictor
from knowsam_lite.web.npm import ORT

pytestmark = pytest.mark.skipif(
    not browser_is_here(), reason="no chromium and chromedriver: apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    if given := os.environ.get("KNOWSAM_LITE_TEST_RUN"):
        return Path(given)
    out = tmp_path_factory.mktemp("run") / "pair"
    words = "train --method supervised_pair --image-size 32 --steps 60 --labeled 8 --device cpu"
    assert main([*words.split(), "--data", "synthetic:dermoscopy:24", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def page(run, tmp_path_factory) -> Path:
    """The folder that `demo` writes."""
    try:
        ORT.get()
    except UserError as missing:
        pytest.skip(str(missing))
    out = tmp_path_factory.mktemp("demo") / "page"
    assert main(["demo", str(run), str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def downloads(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def driver(tmp_path_factory, downloads):
    with browser(tmp_path_factory.mktemp("browser")) as chrome:
        chrome.set_window_size(1280, 1000)
        behavior = {"behavior": "allow", "downloadPath": str(downloads)}
        chrome.execute_cdp_cmd("Browser.setDownloadBehavior", behavior)
        yield chrome


@pytest.fixture
def pictures(real_data, tmp_path) -> list[Path]:
    """Three images of ISIC 2018 as they are, one as PNG, one enlarged beyond the page's limit, one turned."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    chosen = sorted((real_data / "isic2018/images").iterdir())[:5]
    with Image.open(chosen[3]) as image:
        image.save(folder / "as_png.png")
    with Image.open(chosen[4]) as image:
        image.resize((2000, 1500), Image.Resampling.BICUBIC).save(folder / "large.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        image.crop((0, 0, image.width, image.height * 3 // 4)).save(
            folder / "turned.jpg", exif=exif, quality=95
        )
    return [*chosen[:3], *sorted(folder.iterdir())]


def opened(driver, address: str) -> None:
    driver.get("about:blank")
    driver.get(address)
    WebDriverWait(driver, 120, 0.1).until(
        lambda d: d.find_element(By.TAG_NAME, "body").get_attribute("data-ready") or failed(d)
    )


def status(driver) -> str:
    return driver.find_element(By.ID, "status").text


def failed(driver) -> bool:
    return "bad" in driver.find_element(By.ID, "status").get_attribute("class")


def given(driver, path: Path) -> str:
    """Give the page a file; what it then says."""
    driver.execute_script("document.getElementById('result').hidden = true")
    driver.find_element(By.ID, "file").send_keys(str(path.resolve()))
    WebDriverWait(driver, 180, 0.1).until(
        lambda d: d.find_element(By.ID, "result").is_displayed() or failed(d)
    )
    return status(driver)


def saved(driver, downloads: Path, picture: Path) -> np.ndarray:
    """The mask that the page's button saves."""
    path = downloads / f"{picture.stem}_mask.png"
    driver.find_element(By.ID, "save").click()
    WebDriverWait(driver, 30, 0.1).until(lambda _: path.is_file() and path.stat().st_size > 0)
    mask = read_image(path)
    path.unlink()
    return mask


def test_opened_as_a_file_it_answers_as_the_predictor_does(driver, run, page, pictures, downloads):
    predictor = Predictor.from_run(run, device="cpu")
    opened(driver, (page / "index.html").as_uri())
    assert not failed(driver), status(driver)
    scores, seconds = {}, []
    for picture in pictures:
        said = given(driver, picture)
        mask = saved(driver, downloads, picture)
        [expected] = predictor([read_image(picture)])
        assert mask.shape[:2] == expected.shape, "the mask has the size of the picture as it is shown"
        assert set(np.unique(mask)) <= {0, 255}
        scores[picture.name] = dice(mask[..., 0] == 255, expected == 1)
        seconds.append(float(re.search(r"([\d.]+) s$", said)[1]))
        if picture is pictures[0]:
            keep(driver, "demo")
    print(f"\n{scores}; {np.median(seconds):.2f} s an image (median), {max(seconds):.2f} s (longest)")
    assert min(scores.values()) >= 0.99
    boxes = driver.find_elements(By.CSS_SELECTOR, "#views h2")
    assert [box.text.split("’")[0] for box in boxes][:2] == ["Mask", "Uncertainty"] and len(boxes) == 4


def test_a_static_host_and_a_phone(driver, page, pictures):
    handler = partial(SimpleHTTPRequestHandler, directory=str(page))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        dark = [{"name": "prefers-color-scheme", "value": "dark"}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
        try:
            opened(driver, f"http://127.0.0.1:{host.server_port}/")
            keep(driver, "demo_phone_start")
            given(driver, pictures[0])
            keep(driver, "demo_phone")
            wide = driver.execute_script("return [document.body.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1] == 390 and not failed(driver)
        finally:
            driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
            host.shutdown()


def test_no_image_is_one_line_and_the_next_one_works(driver, page, pictures, tmp_path):
    (tmp_path / "no.png").write_bytes(b"no picture")
    opened(driver, (page / "index.html").as_uri())
    said = given(driver, tmp_path / "no.png")
    assert failed(driver) and said == (
        "found no readable image in no.png, expected PNG, JPEG or WebP: choose another file"
    )
    assert given(driver, pictures[0]).startswith(pictures[0].name) and not failed(driver)


def test_without_webassembly_there_is_one_line(driver, page):
    made = driver.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": "delete globalThis.WebAssembly"}
    )
    try:
        opened(driver, (page / "index.html").as_uri())
        assert failed(driver) and status(driver).startswith("found a browser without WebAssembly, expected")
        assert not driver.find_element(By.ID, "drop").is_displayed()
        keep(driver, "demo_without")
    finally:
        driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", made)


def test_a_file_that_was_not_copied_is_named(driver, page, tmp_path):
    for path in page.iterdir():
        if path.name != "runtime.js":
            (tmp_path / path.name).symlink_to(path)
    opened(driver, (tmp_path / "index.html").as_uri())
    assert failed(driver) and status(driver).startswith("found no runtime.js beside this page")
