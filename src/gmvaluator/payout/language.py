"""The language of statements: its sentences, from a catalogue, and its numbers and dates.

A catalogue is a TOML file of sentences. `languages/en.toml` is the one that all others follow.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import localcontext
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any

from gmvaluator.errors import InputError, either
from gmvaluator.memory import once
from gmvaluator.payout.money import Currency

if TYPE_CHECKING:
    from babel import Locale

CATALOGUES = Path(__file__).with_name("languages")
ENGLISH = "en"
LEAST_SHARE = 0.0001
_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


@dataclass(frozen=True)
class Language:
    """Sentences by name, and the locale of numbers and dates.

    Attributes:
        name: that the user chose: `de`, or the path of a catalogue.
        sentences: texts with {names} to fill in.
    """

    name: str
    sentences: Mapping[str, str]

    @staticmethod
    def named(name: str = ENGLISH) -> Language:
        """A language of this package, or of a catalogue in a file.

        Args:
            name: `en`, `de`, or the path of a TOML file.

        Raises:
            InputError: there is no such language or file, or the catalogue lacks a sentence.
        """
        file = Language.catalogue(name)
        sentences = _read(file)
        _check(file, sentences, _read(Language.catalogue(ENGLISH)))
        return Language(name, sentences)

    @staticmethod
    def catalogue(name: str) -> Path:
        """The file of the sentences of a language; that of `en` is the one to translate.

        Args:
            name: as for `named`.

        Raises:
            InputError: there is no such language or file.
        """
        known = {file.stem: file for file in CATALOGUES.glob("*.toml")}
        file = known.get(name, Path(name))
        if not file.is_file():
            raise InputError(
                f"no language {name!r}; choose one of {', '.join(sorted(known))}, or pass a "
                f"catalogue of sentences, a TOML file ({either('language=…', '--language FILE')})"
            )
        return file

    def text(self, sentence: str, **values: Any) -> str:
        """A sentence with its values filled in."""
        return self.sentences[sentence].format_map(values)

    @property
    def code(self) -> str:
        """The language of a page, as HTML names it: `de`, `pt-BR`."""
        return str(self.sentences["locale"]).replace("_", "-")

    @property
    def direction(self) -> str:
        """`ltr` or `rtl`."""
        return str(self._locale.text_direction)

    def money(self, currency: Currency, units: int, *, code: bool = True) -> str:
        """Minor units as people read them: `1,234.50 EUR`, `1.234,50 EUR`."""
        from babel.numbers import format_decimal

        layout = _layout(self._locale.decimal_formats[None].pattern, "0" * currency.digits)
        exact = currency.amount(units)
        # babel rounds in the decimal context, to 28 digits
        with localcontext(prec=len(exact.as_tuple().digits) + currency.digits + 1):
            amount = format_decimal(exact, format=layout, locale=self._locale)
        # a no-break space: an amount is not torn from its currency
        return f"{amount}\u00a0{currency.code}" if code else amount

    def count(self, number: int) -> str:
        from babel.numbers import format_decimal

        return format_decimal(number, locale=self._locale)

    def percent(self, share: float) -> str:
        """A share of 1 with two decimals: `12.34%`. A share above 0 is never shown as 0."""
        if 0 < share < LEAST_SHARE / 2:
            return self.text("less_than", share=self._percent(LEAST_SHARE, "00"))
        return self._percent(share, "00")

    def level(self, part: float) -> str:
        """A part of all cases: `95%`."""
        return self._percent(part, "##")

    def _percent(self, share: float, decimals: str) -> str:
        from babel.numbers import format_percent

        layout = _layout(self._locale.percent_formats[None].pattern, decimals)
        return format_percent(share, format=layout, locale=self._locale)

    def date(self, moment: str) -> str:
        """The date of a time in ISO 8601."""
        from babel.dates import format_date

        return format_date(datetime.fromisoformat(moment).date(), "long", locale=self._locale)

    def period(self, text: str) -> str:
        """A month, `2026-01`, as `January 2026`; any other text unchanged."""
        from babel.dates import format_skeleton

        if not _MONTH.fullmatch(text):
            return text
        month = date.fromisoformat(f"{text}-01")
        return format_skeleton("yMMMM", month, locale=self._locale)

    @property
    def decimal_sign(self) -> str:
        from babel.numbers import get_decimal_symbol

        return get_decimal_symbol(self._locale)

    @property
    @once
    def _locale(self) -> Locale:
        from babel import Locale

        return Locale.parse(self.code, sep="-")


def _layout(pattern: str, decimals: str) -> str:
    """A number pattern of a locale, `#,##0.###`, with other decimals."""
    whole = re.sub(r"\.[#0]+", "", pattern)
    return re.sub(r"0(?!.*0)", f"0.{decimals}" if decimals else "0", whole)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            f"catalogue {file} cannot be read ({error}); write it as {CATALOGUES / 'en.toml'}"
        ) from error


def _check(file: Path, sentences: Mapping[str, Any], english: Mapping[str, str]) -> None:
    """Refuse a catalogue that a statement would fail by.

    Raises:
        InputError: a sentence is missing, unknown, no text or has other names in braces than the
            English one, or there is no such locale.
    """
    from babel import Locale, UnknownLocaleError

    model = CATALOGUES / f"{ENGLISH}.toml"
    if missing := sorted(english.keys() - sentences.keys()):
        raise InputError(f"catalogue {file} lacks {', '.join(missing)}; {model} has all sentences")
    if unknown := sorted(sentences.keys() - english.keys()):
        raise InputError(f"catalogue {file} has {', '.join(unknown)}, which {model} has not")
    for name, text in sentences.items():
        try:
            wrong = not isinstance(text, str) or not _fields(text) <= _fields(english[name])
        except ValueError:
            wrong = True
        if wrong:
            names = ", ".join(f"{{{field}}}" for field in sorted(_fields(english[name])))
            raise InputError(
                f"sentence {name} of catalogue {file} cannot be filled in; write a text with no "
                f"names in braces but {names or 'none'}"
            )
    try:
        Locale.parse(str(sentences["locale"]).replace("_", "-"), sep="-")
    except (ValueError, UnknownLocaleError):
        raise InputError(
            f"catalogue {file} has locale {sentences['locale']!r}, which is unknown; write one "
            "such as fr or pt-BR"
        ) from None


def _fields(text: str) -> set[str]:
    """Names in braces. A conversion or a format counts as part of the name, and so is refused."""
    return {
        f"{name}{'!' + how if how else ''}{':' + layout if layout else ''}"
        for _, name, layout, how in Formatter().parse(text)
        if name is not None
    }
