"""A headless browser for pages on disk, and what it found wrong with them."""

import os
import shutil
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
REQUIRED = "FWBIO_BROWSER"


def chromium():
    """The path of an installed Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def launched():
    """A browser; the test is skipped where none is installed, unless one is required."""
    path = chromium()
    if path is None:
        why = "no Chromium is installed (make browser)"
        if os.environ.get(REQUIRED) == "required":
            pytest.fail(why)
        pytest.skip(why)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser, path, *, fragment="", **context):
    """A page on disk, and the list of what goes wrong on it: errors, and requests to anywhere."""
    faults = []
    place = browser.new_context(**context)
    page = place.new_page()
    address = path.resolve().as_uri()

    def requested(request):
        if not request.url.startswith((address, "data:")):
            faults.append(f"requests {request.url}")

    page.on("request", requested)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: said.type in ("error", "warning") and faults.append(said.text))
    try:
        page.goto(address + fragment)
        yield page, faults
    finally:
        place.close()
