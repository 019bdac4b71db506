"""Code blocks of the documentation, by the words after their fence.

| fence             | what a test does with the block                                             |
|-------------------|------------------------------------------------------------------------------|
| python            | runs it; a page is one session, its blocks in order                          |
| sh                | runs each `gmvaluator` line; looks up make targets and pip extras            |
| sh small          | hours of work: `make blocks` runs it on small stand-ins for the data         |
|                   | (`doc_small`); `make test` checks verbs, options and arguments               |
| sh parse          | no test can run it (NOT_RUN says why); verbs, options, arguments are checked |
| sh exit=1         | runs it; the last line must end with that exit code                          |
| csv title="a.csv" | writes the file for later blocks; toml as well                               |
| diff title="a.py" | edits the file, in CONTRIBUTING.md alone                                     |
| text output       | must be what the block before it prints, but for the digits                  |
| text output exact | must be what the block before it prints                                      |
| text              | nothing                                                                      |

A block of another kind is an error: no block is skipped unseen.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
KINDS = (
    *("python", "sh", "sh small", "sh parse", "csv", "toml", "diff"),
    *("text", "text output", "text output exact"),
)
BLOCK = re.compile(r"^```(?P<info>.*)\n(?P<text>(?:(?!```).*\n)*?)```$", re.MULTILINE)
FENCE = re.compile(r"^\s*(?:```|~~~)", re.MULTILINE)
ATTRIBUTE = re.compile(r'\b(?P<name>title|exit)=(?:"(?P<quoted>[^"]*)"|(?P<plain>\S+))')

# Lines with these words are not run.
NOT_RUN = {
    "npm": "needs the network",
    "serve": "answers until it is stopped; tests/service starts and asks it",
    "tar": "unpacks what npm fetched; the test makes the folder",
    "pip": "needs the network",
    "paper": "preset: weights of CLIP, DreamSim and MANIQA, gigabytes of downloads",
    "maniqa": "quality: weights of half a gigabyte, a download",
    "benchmarks/decoding.py": "decoders that no other part of the project needs; minutes",
    "onnx:sscd.onnx?size=288&mean=imagenet": "a network that is a download",
    "onnx:sscd.onnx?size=288&mean=imagenet=2": "the same",
    "benchmarks/store_comparison.py": "pylance and zarr, which no other part of the project needs",
}


@dataclass(frozen=True)
class Block:
    """A fenced block: its page and first line, the words after the fence, and its text."""

    page: str
    line: int
    info: str
    text: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self}: say what this block is; see tests/doc_blocks.py")

    @property
    def kind(self) -> str:
        return " ".join(ATTRIBUTE.sub("", self.info).split())

    def attribute(self, name: str) -> str | None:
        """The value of `name=value` or `name="a value"` after the fence."""
        for match in ATTRIBUTE.finditer(self.info):
            if match["name"] == name:
                return match["plain"] or match["quoted"]
        return None

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.info})"


def pages() -> list[Path]:
    """README.md and every page of the site; tables that studies wrote hold no blocks."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [file for file in files if file.parent.name != "results"]


def blocks(page: Path, text: str | None = None) -> list[Block]:
    """The fenced blocks of a page, in order.

    Raises:
        ValueError: a block of an unknown kind, or a fence that belongs to no block, such as one
            that is not closed.
    """
    text = page.read_text(encoding="utf-8") if text is None else text
    name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
    matches = list(BLOCK.finditer(text))
    if len(FENCE.findall(text)) != 2 * len(matches):
        raise ValueError(f"{name} has a fence that opens or closes no block")
    return [
        Block(name, text.count("\n", 0, match.start()) + 1, match["info"], match["text"])
        for match in matches
    ]


def command_lines(block: Block) -> Iterator[list[str]]:
    """The commands of a shell block as words: continued lines joined, comments dropped."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words
