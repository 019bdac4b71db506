"""HTML pages as a test looks at them: their tags and text, in a file and in a browser."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from browser import READY, new_page
from playwright.sync_api import Browser, Page

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Tree(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text.append(data)

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.text))


def text_of(page: Path) -> str:
    """The text that stands in the file, before the script draws cards."""
    return Tree(page.read_text()).words


def opened_page(browser: Browser, file: Path, **options: Any) -> tuple[Page, list[str]]:
    """The file in a new tab, once its script has drawn what is seen first, and the complaints."""
    page, complaints = new_page(browser, **options)
    page.goto(file.absolute().as_uri())
    page.locator(READY).wait_for(state="attached")
    return page, complaints


def drawn(browser: Browser, file: Path) -> Tree:
    """The page as the script leaves it."""
    page, complaints = opened_page(browser, file)
    tree = Tree(page.content())
    assert complaints == []
    assert page.locator("#failed").text_content() == ""
    page.close()
    return tree
