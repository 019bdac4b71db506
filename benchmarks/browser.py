"""A real Chromium, driven by Playwright, with an empty profile.

`GMVALUATOR_BROWSER` names the program; otherwise a Chromium or Chrome on the path is taken
(scripts/browser installs one). Playwright downloads none.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
READY = "html[data-ready=yes]"
# for every wait: a busy machine may take seconds for what is quick by itself
MILLISECONDS = 60_000
expect.set_options(timeout=MILLISECONDS)


def find_browser() -> str:
    """The program's path; RuntimeError that says how to get one."""
    named = os.environ.get("GMVALUATOR_BROWSER")
    program = named or next((path for name in NAMES if (path := shutil.which(name))), None)
    if program is None:
        raise RuntimeError(
            "no Chromium or Chrome was found: run scripts/browser, or set GMVALUATOR_BROWSER to "
            "the program"
        )
    return program


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser, ended with the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=list(FLAGS))
        yield browser
        browser.close()


def new_page(browser: Browser, **options: Any) -> tuple[Page, list[str]]:
    """A tab with a profile of its own, and a list of its complaints as they come.

    Complaints: errors and warnings on the console, exceptions, and requests beyond the file.

    Args:
        browser: from `running_browser`.
        options: of Playwright's `Browser.new_page`, such as `color_scheme="dark"`.
    """
    page = browser.new_page(**options)
    page.set_default_timeout(MILLISECONDS)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    page.on(
        "request",
        lambda request: (
            complaints.append(f"asked for {request.url}")
            if not request.url.startswith(("file:", "data:", "blob:"))
            else None
        ),
    )
    return page, complaints


def wait_until(page: Page, function: str, argument: Any = None, seconds: float = 60) -> None:
    """Until a JavaScript function returns true; TimeoutError otherwise.

    Playwright's `wait_for_function` needs a page whose content policy allows `eval`.
    """
    end = time.monotonic() + seconds
    while not page.evaluate(function, argument):
        if time.monotonic() > end:
            raise TimeoutError(f"not true after {seconds} s: {function}")
        time.sleep(0.02)
