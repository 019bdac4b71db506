"""What the documentation site computes while it is built: formulas and the command reference.

Formulas are written as TeX between dollar signs, which GitHub shows too, and become MathML here:
browsers draw it without a script. The help of every command is asked of click.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import click

COMMANDS = "<!-- commands -->"
HELP_WIDTH = 76
ANCHOR = "eq-"

_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_DISPLAY = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)
_TAG = re.compile(r"\\tag\{([^}]*)\}")
_TEST_WORDS = re.compile(r"(?m)^( *`{3,}\w+)(?: (?:parse|small|output|exact|exit=\d+))+")
_NUMBERED = re.compile(r"(?m)^( *)(\$\$\n(?:(?!\$\$).)*?\\tag\{([^}]*)\})", re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """An anchor before each numbered formula; the help of all commands where it is asked for.

    Fences lose the words that tell tests/docs/test_docs.py what to do: the renderer knows none.
    """
    markdown = _TEST_WORDS.sub(r"\1", markdown)
    markdown = _NUMBERED.sub(rf'\1<a id="{ANCHOR}\3"></a>\n\n\1\2', markdown)
    if COMMANDS not in markdown:
        return markdown
    from gmvaluator.cli import cli

    return markdown.replace(COMMANDS, "\n\n".join(command_sections(cli, "gmvaluator")))


def on_page_content(html: str, **_: Any) -> str:
    """Formulas as MathML."""
    return with_mathml(html)


def command_sections(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[str]:
    """A Markdown section for a command and each one below it: a heading, and what `--help` says."""
    context = click.Context(
        command,
        parent,
        info_name=name,
        **{**command.context_settings, "terminal_width": HELP_WIDTH, "max_content_width": None},
    )
    path = context.command_path
    heading = f"## `{path}` {{#{path.replace(' ', '-')}}}"
    yield f"{heading}\n\n```text\n{command.get_help(context)}\n```"
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            below = command.get_command(context, each)
            if below is not None and not below.hidden:
                yield from command_sections(below, each, context)


def with_mathml(page: str) -> str:
    """The page with every formula of the arithmatex extension as MathML.

    A displayed formula with a tag shows its number; `on_page_markdown` gave it an anchor.
    """
    page = _DISPLAY.sub(lambda found: _display(html.unescape(found[1])), page)
    return _INLINE.sub(lambda found: _mathml(html.unescape(found[1]), "inline"), page)


def _display(tex: str) -> str:
    tag = _TAG.search(tex)
    drawn = _mathml(_TAG.sub("", tex), "block")
    if tag is None:
        return f'<div class="equation">{drawn}</div>'
    return f'<div class="equation">{drawn}<span>({html.escape(tag[1])})</span></div>'


def _mathml(tex: str, display: str) -> str:
    from latex2mathml.converter import convert

    return str(convert(tex.strip(), display=display))
