"""The annotator in a real browser: 20 pictures annotated by the mouse, as the truth says where to click.

Shows Dice against the truth and seconds of compute a click with `-s`; KNOWSAM_LITE_SCREENSHOTS=DIR keeps
pictures. Environment: KNOWSAM_LITE_TEST_DATA (kvasir_seg), KNOWSAM_LITE_MOBILE_SAM (its weights, if they are
not in the cache).
"""

import os
from pathlib import Path

import numpy as np
import pytest
from lab import browser, browser_is_here, keep
from scipy.ndimage import distance_transform_edt
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from knowsam_lite.data import SegmentationFolder
from knowsam_lite.metrics import dice
from knowsam_lite.web.annotator import Wanted, open_annotator
from knowsam_lite.web.start import serve_in_thread

pytestmark = pytest.mark.skipif(
    not browser_is_here(), reason="no chromium and chromedriver: apt-get install chromium chromium-driver"
)
PICTURES, CORRECTIONS = 20, 3


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser")) as chrome:
        chrome.set_window_size(1280, 900)
        yield chrome


def weights() -> Path | None:
    given = os.environ.get("KNOWSAM_LITE_MOBILE_SAM")
    return Path(given) if given else None


def opened(driver, address: str) -> None:
    driver.get("about:blank")
    driver.get(address)
    state(driver, "ready")


def state(driver, *wanted: str) -> None:
    def reached(d) -> bool:
        assert "bad" not in d.find_element(By.ID, "message").get_attribute("class"), message(d)
        return d.find_element(By.TAG_NAME, "body").get_attribute("data-state") in wanted

    WebDriverWait(driver, 120, 0.02).until(reached)


def message(driver) -> str:
    return driver.find_element(By.ID, "message").text


def place(driver, x: float, y: float) -> tuple[int, int]:
    """Where a pixel of the picture is in the window, from the middle of the canvas as selenium counts."""
    canvas = driver.find_element(By.ID, "view")
    scale, left, top = (float(canvas.get_attribute(f"data-{name}")) for name in ("scale", "x", "y"))
    size = canvas.size
    return round(x * scale + left - size["width"] / 2), round(y * scale + top - size["height"] / 2)


def drag(driver, start: tuple[float, float], end: tuple[float, float]) -> None:
    canvas = driver.find_element(By.ID, "view")
    actions = ActionChains(driver, duration=20)
    actions.move_to_element_with_offset(canvas, *place(driver, *start)).click_and_hold()
    actions.move_to_element_with_offset(canvas, *place(driver, *end)).release().perform()


def click(driver, x: float, y: float, inside: bool = True) -> None:
    canvas = driver.find_element(By.ID, "view")
    actions = ActionChains(driver, duration=20).move_to_element_with_offset(canvas, *place(driver, x, y))
    (actions.click() if inside else actions.context_click()).perform()


def press(driver, *keys: str) -> None:
    ActionChains(driver).send_keys(*keys).perform()


def labels(driver, kind: str) -> np.ndarray:
    """A map of the page: "labels" or "answer"."""
    text, height, width = driver.execute_script(
        f"return [new TextDecoder('latin1').decode(open.{kind}), open.height, open.width]"
    )
    return np.frombuffer(text.encode("latin1"), np.uint8).reshape(height, width)


def innermost(area: np.ndarray) -> tuple[float, float, float]:
    """The pixel farthest from the border of an area, x and y, and how far."""
    inside = distance_transform_edt(np.pad(area, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(inside.argmax(), inside.shape)
    return x + 0.5, y + 0.5, float(inside.max())


def correction(found: np.ndarray, truth: np.ndarray) -> tuple[float, float, bool]:
    """The click that a careful person would add: in the middle of the largest mistake."""
    missed, wrong = innermost(truth & ~found), innermost(found & ~truth)
    x, y, _ = max(missed, wrong, key=lambda place: place[2])
    return x, y, missed[2] >= wrong[2]


def asked(driver, act) -> float:
    """Do something that SAM answers; the seconds that the answer took on the server."""
    driver.execute_script("document.body.dataset.state = 'waiting'")
    act()
    state(driver, "answered")
    return float(driver.find_element(By.TAG_NAME, "body").get_attribute("data-seconds"))


@pytest.mark.parametrize("start", ["box", "click"])
def test_twenty_pictures_by_boxes_and_clicks(driver, real_data, tmp_path, start):
    real = SegmentationFolder(real_data / "kvasir_seg")
    chosen = {
        record.image.stem: record for record in sorted(real.records, key=lambda r: r.image.name)[:PICTURES]
    }
    (tmp_path / "images").mkdir()
    for record in chosen.values():
        (tmp_path / "images" / record.image.name).symlink_to(record.image.resolve())
    annotator = open_annotator(tmp_path, Wanted(teacher="mobile_sam", checkpoint=weights(), device="cpu"))
    opened(driver, serve_in_thread(annotator))
    seconds, scores = [], []
    for name, record in annotator.folder.records.items():
        truth = real.mask(chosen[name]) == 1
        state(driver, "ready")
        if start == "box":
            y, x = np.nonzero(truth)
            corners = (x.min(), y.min()), (x.max() + 1, y.max() + 1)
            seconds.append(asked(driver, lambda corners=corners: drag(driver, *corners)))
        else:
            middle = innermost(truth)[:2]
            seconds.append(asked(driver, lambda middle=middle: click(driver, *middle)))
        steps = [dice(labels(driver, "answer") == 1, truth)]
        for _ in range(CORRECTIONS):
            fix = correction(labels(driver, "answer") == 1, truth)
            seconds.append(asked(driver, lambda fix=fix: click(driver, *fix)))
            steps.append(dice(labels(driver, "answer") == 1, truth))
        if record is list(annotator.folder.records.values())[2]:
            keep(driver, f"annotate_{start}")
        scores.append(steps)
        last = record is list(annotator.folder.records.values())[-1]
        press(driver, Keys.ENTER)
        if last:
            driver.find_element(By.ID, "save").click()
        else:
            press(driver, Keys.ARROW_RIGHT)
        WebDriverWait(driver, 20, 0.02).until(lambda _, name=name: annotator.folder.has_mask(name))
    saved = [dice(annotator.folder.labels(name) == 1, real.mask(chosen[name]) == 1) for name in chosen]
    np.testing.assert_allclose(saved, [steps[-1] for steps in scores], atol=1e-9)
    mean = np.mean(scores, axis=0)
    print(f"\n{start}, then {CORRECTIONS} clicks, {PICTURES} pictures: Dice {np.round(mean, 3)}; at the end")
    print(f"{np.min(scores, axis=0)[-1]:.3f} or more; a click {np.median(seconds):.2f} s (median)")
    assert mean[-1] > 0.85 and mean[-1] > mean[0]
