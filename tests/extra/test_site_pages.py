"""The whole site is built, without network where that can be forbidden, and works in a real browser.

KNOWSAM_LITE_SCREENSHOTS=DIR keeps pictures.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.chapters import environment
from lab import browser, browser_is_here, keep
from selenium.webdriver.common.by import By

from knowsam_lite.course.grading.sandbox import namespaces

PAGES = (
    "index",
    "notebooks/05_uncertainty_and_ham",
    "docs/equations",
    "docs/glossary",
    "api/metrics",
)
ELSEWHERE = (
    "return performance.getEntriesByType('resource').map(r => r.name).filter(n => !n.startsWith('file:'))"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site") / "site"
    command = [*namespaces(), sys.executable, "-m", "knowsam_lite.course", "site", str(out)]
    outcome = subprocess.run(command, env=environment("smoke"), capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    return out


def test_every_page_fits_a_screen_and_a_phone_and_fetches_nothing(site, tmp_path):
    if not browser_is_here():
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    with browser(tmp_path) as driver:
        for width in (1280, 500):
            driver.set_window_size(width, 900)
            for page in PAGES:
                driver.get((site / f"{page}.html").as_uri())
                for mode in ("light", "dark"):
                    driver.execute_script("document.documentElement.dataset.theme = arguments[0]", mode)
                    keep(driver, f"site_{page.replace('/', '_')}_{width}_{mode}")
                assert driver.execute_script("return document.documentElement.scrollWidth") <= width, page
                assert driver.execute_script(ELSEWHERE) == [], page


def test_solutions_unfold_and_formulas_lead_to_their_code(site, tmp_path):
    if not browser_is_here():
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    with browser(tmp_path) as driver:
        driver.get((site / "notebooks" / "05_uncertainty_and_ham.html").as_uri())
        folds = [d for d in driver.find_elements(By.TAG_NAME, "details") if "Solution" in d.text]
        assert len(folds) == 5 and "log_softmax" not in folds[0].text
        driver.execute_script("arguments[0].open = true", folds[0])
        assert "log_softmax" in folds[0].text
        driver.get((site / "docs" / "equations.html").as_uri())
        link = driver.find_element(By.LINK_TEXT, "entropy_map").get_attribute("href")
        assert link.endswith("_modules/knowsam_lite/uncertainty.html#entropy_map")
        assert len(driver.find_elements(By.TAG_NAME, "math")) > 20
