"""Runs README and the tutorials in a new virtual environment, with what they themselves install.

    python scripts/fresh_install.py [ENVIRONMENT]

ENVIRONMENT is a virtual environment to use; by default a new one is made, which takes minutes. The
sample data come first, by their own page, in the environment of this script: they need the extra
`demo`, which brings packages that would hide what is missing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from doc_blocks import Block, blocks, command_lines  # noqa: E402
from doc_given import prepare  # noqa: E402

DATA = ROOT / "docs/tutorials/data.md"
PAGES = (ROOT / "README.md", *sorted(set(DATA.parent.glob("*.md")) - {DATA}))
LEFT_OUT = ("make", "curl")


def main(arguments: list[str]) -> int:
    """The number of blocks that failed."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(arguments[0]) if arguments else _installed(Path(scratch, "environment"))
        failed = 0
        data = Path(scratch, "data")
        data.mkdir()
        failed += _run(blocks(DATA), data, Path(sys.executable).parent)
        for page in PAGES:
            folder = Path(scratch, page.stem)
            shutil.copytree(data, folder)
            with contextlib.chdir(folder):
                prepare(page)
            failed += _run(blocks(page), folder, fresh / "bin")
    return failed


def _installed(folder: Path) -> Path:
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin/pip", "install", "--quiet", str(ROOT)], check=True)
    return folder


def _run(page: list[Block], folder: Path, programs: Path) -> int:
    """Run the blocks of a page in their order; a page's Python is one session."""
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": ""}
    session, failed = "", 0
    for block in page:
        if block.kind == "python":
            # what came before runs again without its output: blocks share their names
            session += f"\n{block.text}"
            commands = [[str(programs / "python"), "-c", session]]
        elif block.kind == "sh":
            commands = [words for words in command_lines(block) if words[0] not in LEFT_OUT]
            # a page installs from the checkout
            commands = [[*words[:-1], f"{ROOT}{words[-1][1:]}"] if words[0] == "pip" else words
                        for words in commands]  # fmt: skip
        else:
            title = block.attribute("title")
            if title:
                (folder / title).write_text(block.text, encoding="utf-8")
            continue
        for number, words in enumerate(commands):
            done = subprocess.run(
                words, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            expected = int(block.attribute("exit") or 0) if number == len(commands) - 1 else 0
            result = "ok    " if done.returncode == expected else "FAILED"
            print(result, block, *words[:2], flush=True)
            if done.returncode != expected:
                failed += 1
                print(done.stderr[-1000:])
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
