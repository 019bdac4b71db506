"""Code blocks of the documentation, and how they are checked.

| fence              | what a test does with it                                                    |
|--------------------|-----------------------------------------------------------------------------|
| python             | runs it; a page is one session, its blocks in order                         |
| sh                 | runs each `gmvaluator` line; looks up make targets and pip extras           |
| sh small           | hours of work: `make blocks` runs its lines on stand-ins, with small        |
|                    | numbers (`doc_small`), all but those of NOT_RUN; `make test` only reads it: |
|                    | verbs, options and arguments must exist                                     |
| sh parse           | what no test can run (NOT_RUN): verbs, options and arguments must exist     |
| sh exit=1          | runs it; the last line must end with that exit code                         |
| csv, json, toml, … | a file that the page shows, `title="owners.csv"` writes it for later blocks |
| text output        | what the block before it prints, all but the digits                         |
| text               | anything else                                                               |

A block of another kind fails its page: none is skipped unseen.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>```+)(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)(?P=fence)[ ]*$",
    re.DOTALL | re.MULTILINE,
)
FILES = ("csv", "json", "toml", "yaml", "bibtex")
EXIT = re.compile(r"exit=(\d+)")
LOOP = re.compile(r"^for (?P<name>\w+) in (?P<words>.*); do\n(?P<body>.*?)^done$", re.S | re.M)
TITLE = re.compile(r'title="([^"]+)"')

# programs that lines of a running block may use beside gmvaluator, in the page's own folder
SMALL_TOOLS = ("cat", "cp", "echo", "head", "ls", "mkdir", "mv", "rm", "sed")
# and lines that are only read
OTHER_PROGRAMS = (*SMALL_TOOLS, "cd", "export", "git", "npm", "tar", "open", "xdg-open", "python3")

# Why a line is read only: by its program, or by a word of it. Every `sh parse` block is of these.
NOT_RUN = {
    "npm": "needs the network",
    "tar": "unpacks what npm fetched; the test makes the folder",
    "pip": "needs the network",
    "paper": "preset: weights of CLIP, DreamSim and MANIQA, gigabytes of downloads",
    "maniqa": "quality: weights of half a gigabyte, a download",
    "benchmarks/store_comparison.py": "pylance and zarr, which no other part of the project needs",
}


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, its words after the fence, and its text."""

    page: str
    line: int
    info: str
    text: str

    @property
    def kind(self) -> str:
        return (self.info.split() or [""])[0]

    @property
    def words(self) -> tuple[str, ...]:
        """What the fence says after the language, titles left out."""
        return tuple(TITLE.sub("", self.info).split()[1:])

    @property
    def title(self) -> str | None:
        found = TITLE.search(self.info)
        return found[1] if found else None

    @property
    def exit_code(self) -> int:
        found = EXIT.search(self.info)
        return int(found[1]) if found else 0

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.info})"


def pages() -> list[Path]:
    """README.md and every page of the site; tables that studies wrote hold no blocks."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if page.parent.name != "results"]


def blocks(page: Path, text: str | None = None) -> list[Block]:
    """The fenced blocks of a page, in order.

    Raises:
        ValueError: a fence that no block was made of, such as one that is not closed.
    """
    text = page.read_text(encoding="utf-8") if text is None else text
    name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
    found = [
        Block(
            page=name,
            line=text.count("\n", 0, each.start()) + 1,
            info=each["info"].strip(),
            text=re.sub(f"(?m)^{each['indent']}", "", each["body"]),
        )
        for each in FENCE.finditer(text)
    ]
    fences = len(re.findall(r"(?m)^\s*(?:```|~~~)", text))
    inside = sum(len(re.findall(r"(?m)^\s*(?:```|~~~)", each.text)) for each in found)
    if fences - inside != 2 * len(found):
        raise ValueError(f"{name} has {fences} fences and {len(found)} blocks")
    return found


def check_kind(block: Block) -> None:
    """Raise ValueError for a block of a kind that no test knows."""
    allowed = {"python": ((),), "sh": ((), ("small",), ("parse",)), "text": ((), ("output",))}
    if block.kind in FILES and not block.words:
        if block.kind == "toml":
            tomllib.loads(block.text)
        return
    words = tuple(word for word in block.words if not EXIT.fullmatch(word))
    if words in allowed.get(block.kind, ()):
        return
    raise ValueError(f"{block}: say what this block is; see tests/doc_blocks.py")


def command_lines(block: Block, *, loops: bool = False) -> Iterator[list[str]]:
    """The commands of a shell block as words: lines joined, comments dropped, variables filled in.

    Of shell syntax a block may have continued lines, `&&`, NAME="words" with $NAME after it, and
    a loop over names, whose body is taken once, or for each of them.
    """
    named: dict[str, str] = {}
    text = block.text.replace("\\\n", " ")
    for line in (LOOP.sub(_repeated, text) if loops else text).splitlines():
        if found := re.fullmatch(r'\s*([A-Z]+)="(.*)"\s*', line):
            named[found[1]] = found[2]
            continue
        if re.fullmatch(r"\s*(for \w+ in .*; do|done|)\s*", line):
            continue
        for name, words in named.items():
            line = line.replace(f"${name}", words)
        for part in line.split(" && "):
            if words_of := shlex.split(part, comments=True):
                yield words_of


def _repeated(loop: re.Match[str]) -> str:
    """The body of a loop for each of its words."""
    return "".join(loop["body"].replace(f"${loop['name']}", word) for word in loop["words"].split())
