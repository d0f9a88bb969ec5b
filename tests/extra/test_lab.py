"""The course as a learner meets it, in JupyterLab in a browser.

KNOWSAM_LITE_SCREENSHOTS=DIR keeps what the browser shows, to look at.
"""

import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest
from helpers.chapters import NAMES, ROOT
from lab import browser, browser_is_here, end_kernels, open_notebook, run_all, server
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.skipif(
    not browser_is_here(), reason="no chromium and chromedriver: apt-get install chromium chromium-driver"
)
# Chapter -> which slider of its explorer is moved.
EXPLORERS = {"01": "right", "09": "count"}
# Elements that stand out of the cell that holds them, and pictures that are not there or not sharp.
FAULTS = """
const faults = [];
for (const cell of document.querySelectorAll('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell')) {
  const right = cell.getBoundingClientRect().right + 1;
  for (const part of cell.querySelectorAll('.jp-RenderedHTMLCommon table, img, mjx-container')) {
    const box = part.getBoundingClientRect();
    const scrolls = part.closest('.jp-OutputArea-output') && !part.matches('img');
    if (box.right > right && !scrolls)
      faults.push(`cut: ${part.tagName} ${part.alt || part.textContent.slice(0, 60)}`);
    if (!part.matches('img')) continue;
    const badge = part.src.includes('badge');
    if (!badge && !part.naturalWidth) faults.push(`not there: ${part.alt}`);
    if (!badge && part.naturalWidth < 1.5 * box.width) faults.push(`not sharp: ${part.alt}`);
  }
}
return faults;
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder, state = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("state")
    for path in (ROOT / "solutions").glob("*.ipynb"):
        shutil.copy(path, folder)
    with server(folder, state) as address, browser(state) as driver:
        yield driver, address


@pytest.fixture(autouse=True)
def kernels(lab):
    """None is left behind."""
    yield
    end_kernels(lab[0])


def picture(driver, name: str, element=None) -> str:
    """A digest of what can be seen; the picture itself is kept where KNOWSAM_LITE_SCREENSHOTS says."""
    png = driver.get_screenshot_as_png() if element is None else element.screenshot_as_png
    if "KNOWSAM_LITE_SCREENSHOTS" in os.environ:
        folder = Path(os.environ["KNOWSAM_LITE_SCREENSHOTS"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").write_bytes(png)
    return hashlib.sha256(png).hexdigest()


def explorer(driver):
    """The cell output that holds the widgets, once its picture is there."""
    areas = driver.find_elements(By.CSS_SELECTOR, ".jp-OutputArea-output:has(.widget-inline-hbox):has(img)")
    return areas[0] if areas else None


CHANGED = """
    const image = arguments[0].querySelector('img');
    return image && image.complete && image.naturalWidth > 100 && image.src !== arguments[1];
"""


@pytest.mark.parametrize("number", EXPLORERS)
def test_an_explorer_moves(lab, number):
    driver, address = lab
    name = next(name for name in NAMES if name.startswith(number))
    open_notebook(driver, address, f"{name}.ipynb")
    run_all(driver)
    area = WebDriverWait(driver, 120, 0.5).until(explorer)
    image = WebDriverWait(driver, 60, 0.5).until(lambda _: area.find_element(By.CSS_SELECTOR, "img"))
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", area)
    time.sleep(1)
    assert driver.execute_script("return arguments[0].naturalWidth", image) > 100
    before = picture(driver, f"{number}_explorer_before", area)
    source = image.get_attribute("src")
    sliders = area.find_elements(By.CSS_SELECTOR, ".widget-hslider")
    slider = next(s for s in sliders if s.text.startswith(EXPLORERS[number]))
    said = slider.text
    handle = slider.find_element(By.CSS_SELECTOR, ".noUi-handle")
    for _ in range(4):
        handle.send_keys(Keys.ARROW_RIGHT)
    WebDriverWait(driver, 60, 0.5).until(lambda d: d.execute_script(CHANGED, area, source))
    time.sleep(2)
    assert slider.text != said, "the number beside the slider follows"
    assert picture(driver, f"{number}_explorer_after", area) != before
    wide = driver.execute_script("return [arguments[0].scrollWidth, arguments[0].clientWidth]", area)
    assert wide[0] <= wide[1] + 1, "the explorer is cut at the right"


def test_the_prompt_explorer_is_clicked_and_dragged(lab):
    driver, address = lab
    name = next(name for name in NAMES if name.startswith("06"))
    open_notebook(driver, address, f"{name}.ipynb")
    run_all(driver)
    area = WebDriverWait(driver, 120, 0.5).until(explorer)
    image = area.find_element(By.CSS_SELECTOR, "img")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", image)
    time.sleep(1)
    assert image.size == {"width": 400, "height": 400}
    ways = {
        "click": ActionChains(driver).move_to_element_with_offset(image, -150, 150).click(),
        "drag": ActionChains(driver)
        .move_to_element_with_offset(image, -120, -100)
        .click_and_hold()
        .move_by_offset(200, 180)
        .release(),
    }
    for way, actions in ways.items():
        source = image.get_attribute("src")
        actions.perform()
        WebDriverWait(driver, 60, 0.5).until(lambda d, was=source: d.execute_script(CHANGED, area, was))
        picture(driver, f"06_explorer_{way}", area)


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_is_whole_and_sharp(lab, name):
    driver, address = lab
    open_notebook(driver, address, f"{name}.ipynb")
    time.sleep(3)  # formulas
    assert driver.execute_script(FAULTS) == []
    if "KNOWSAM_LITE_SCREENSHOTS" in os.environ:
        keep_pages(driver, name)


def keep_pages(driver, name: str) -> None:
    """One screenshot per screen of the notebook."""
    outer = "document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer')"
    height, step = driver.execute_script(f"return [{outer}.scrollHeight, {outer}.clientHeight]")
    for page, top in enumerate(range(0, height, max(step - 40, 200))):
        driver.execute_script(f"{outer}.scrollTop = {top}")
        time.sleep(0.3)
        picture(driver, f"{name}_{page:02d}")
