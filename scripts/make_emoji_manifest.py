"""Make attributed manifests of the emoji in the npm package emoji-datasource-twitter.

    npm pack emoji-datasource-twitter
    tar -xzf emoji-datasource-twitter-*.tgz
    python scripts/make_emoji_manifest.py package --out emoji

writes `emoji.csv` (training images) and, with `--hold-out SHARE`, `designs.csv` and
`variants.csv` (held-out images: of designs that are not trained on at all, and of single variants
of designs that are). Columns: path, label, category, subcategory, skin, gender, hair, design,
name. The label is the text of the columns named by `--combine`, joined by "_".

The graphics are Twemoji (CC BY 4.0: name the authors when you show them), the package is MIT.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SKIN = {
    "1F3FB": "light",
    "1F3FC": "medium-light",
    "1F3FD": "medium",
    "1F3FE": "medium-dark",
    "1F3FF": "dark",
}
GENDER_SIGNS = {"2640": "woman", "2642": "man", "1F469": "woman", "1F468": "man"}
GENDER_WORDS = {
    **dict.fromkeys(("WOMAN", "WOMEN", "GIRL", "PRINCESS", "MOTHER"), "woman"),
    **dict.fromkeys(("MAN", "MEN", "BOY", "PRINCE", "FATHER"), "man"),
}
HAIR = {
    "RED HAIR": "red",
    "CURLY HAIR": "curly",
    "WHITE HAIR": "white",
    "BLOND HAIR": "blond",
    ": BALD": "bald",
}
PERSON = "1F9D1"
# joiner, picture form, gender signs and the arrow of "facing right"
NOT_DESIGN = {"200D", "FE0F", "2640", "2642", "27A1"}
COMBINE = ("subcategory", "skin", "gender")
KINDS = ("person-role", "person-gesture", "person-activity", "person-sport")


@dataclass(frozen=True)
class Emoji:
    """One picture and its attributes; `file` is its name below img/twitter/64."""

    file: str
    category: str
    subcategory: str
    skin: str
    gender: str
    hair: str
    design: str
    name: str

    def label(self, combine: Sequence[str]) -> str:
        """Text of a combination, such as "person-role_dark_woman"."""
        return "_".join(getattr(self, column) for column in combine)


COLUMNS = tuple(field.name for field in fields(Emoji))[1:]


def read_emoji(entries: Iterable[dict[str, Any]]) -> list[Emoji]:
    """Every picture that Twemoji has of the entries of emoji.json, skin tones included."""
    listed = list(entries)
    codes = [entry["unified"] for entry in listed]
    found = []
    for entry in listed:
        own = {
            "category": _text(entry["category"]),
            "subcategory": _text(entry["subcategory"]),
            "gender": gender(entry, codes),
            "hair": hair(entry["name"]),
            "design": design(entry["unified"]),
            "name": entry["short_name"],
        }
        for tone, variant in [("", entry), *entry.get("skin_variations", {}).items()]:
            if variant.get("has_img_twitter"):
                found.append(Emoji(file=variant["image"], skin=skin(tone), **own))
    return found


def skin(tone: str) -> str:
    """Of a key of skin_variations: "1F3FF" is dark; of two people, mixed if they differ."""
    tones = {SKIN[part] for part in tone.split("-") if part}
    return "none" if not tones else tones.pop() if len(tones) == 1 else "mixed"


def gender(entry: dict[str, Any], codes: Sequence[str]) -> str:
    """woman, man, mixed (both) or none, of people only.

    A gender sign, man or woman in the sequence decides. Without one, an emoji that has gendered
    forms stands for either (none); of the others the words of the name decide.
    """
    if entry["category"] != "People & Body":
        return "none"
    code = entry["unified"]
    signs = {GENDER_SIGNS[part] for part in code.split("-") if part in GENDER_SIGNS}
    if not signs and not any(other.startswith(f"{code}-200D-264") for other in codes):
        words = entry["name"].replace(",", " ").replace(":", " ").split()
        signs = {GENDER_WORDS[word] for word in words if word in GENDER_WORDS}
    return "none" if not signs else signs.pop() if len(signs) == 1 else "mixed"


def hair(name: str) -> str:
    """Named by the emoji's name, else none (it may still be drawn with some)."""
    return next((value for words, value in HAIR.items() if words in name), "none")


def design(code: str) -> str:
    """What variants of skin tone, gender and direction have in common, as a code sequence."""
    parts = [part for part in code.split("-") if part not in NOT_DESIGN]
    return "-".join(PERSON if part in ("1F468", "1F469") else part for part in parts).lower()


def without_shared(emoji: Sequence[Emoji], folder: Path) -> list[Emoji]:
    """Leave out pictures that several emoji share: they show nothing of what these differ in."""
    pixels = [_pixels(folder / each.file).tobytes() for each in emoji]
    count = Counter(pixels)
    return [each for each, own in zip(emoji, pixels, strict=True) if count[own] == 1]


def choose(
    emoji: Sequence[Emoji], kinds: Sequence[str], combine: Sequence[str], least: int
) -> list[Emoji]:
    """Emoji of these sub-categories whose combination has at least `least` pictures."""
    of_kind = [each for each in emoji if not kinds or each.subcategory in kinds]
    count = Counter(each.label(combine) for each in of_kind)
    return [each for each in of_kind if count[each.label(combine)] >= least]


def split(emoji: Sequence[Emoji], share: float, seed: int) -> dict[str, list[Emoji]]:
    """Training emoji, and of both kinds of held-out ones this share, by the file's name."""
    generator = np.random.default_rng(seed)
    designs = sorted({each.design for each in emoji})
    unseen = set(generator.permutation(designs)[: round(share * len(designs))].tolist())
    seen = [each for each in emoji if each.design not in unseen]
    shuffled = generator.permutation(len(seen))
    held_out = set(shuffled[: round(share * len(seen))].tolist())
    return {
        "emoji": [each for row, each in enumerate(seen) if row not in held_out],
        "designs": [each for each in emoji if each.design in unseen],
        "variants": [each for row, each in enumerate(seen) if row in held_out],
    }


def write_manifest(
    file: Path, emoji: Sequence[Emoji], combine: Sequence[str], pictures: Path
) -> None:
    """One row a picture; paths are relative to the manifest."""
    relative = Path(os.path.relpath(pictures, file.parent))
    with file.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(("path", "label", *COLUMNS))
        for each in emoji:
            path = (relative / each.file).as_posix()
            writer.writerow((path, each.label(combine), *astuple(each)[1:]))


def write_pictures(emoji: Sequence[Emoji], source: Path, target: Path, size: int) -> None:
    """Copies of size × size pixels on white, as a generator of that size learns them."""
    target.mkdir(parents=True, exist_ok=True)
    for each in emoji:
        picture = _pixels(source / each.file)
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture)
        small = white.convert("RGB").resize((size, size), Image.Resampling.BOX)
        small.save(target / each.file)


def main() -> None:
    """Read, choose, split, write, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("package", type=Path, help="the unpacked package")
    parser.add_argument("--out", type=Path, required=True, help="folder for the manifests")
    parser.add_argument(
        "--kind", action="append", help=f"sub-category; default {', '.join(KINDS)}; 'all' for all"
    )
    parser.add_argument("--combine", action="append", choices=COLUMNS, help="column of the label")
    parser.add_argument("--least", type=int, default=1, help="pictures that a combination needs")
    parser.add_argument("--hold-out", type=float, default=0.0, help="share, of each kind")
    parser.add_argument("--size", type=int, help="write copies of this side instead of using 64 px")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    options = parser.parse_args()
    source = options.package / "img" / "twitter" / "64"
    data = options.package / "emoji.json"
    if not data.is_file() or not source.is_dir():
        parser.error(f"{options.package} has no emoji.json or no img/twitter/64; unpack the npm "
                     "package emoji-datasource-twitter and pass its folder 'package'")  # fmt: skip
    if not 0 <= options.hold_out < 0.5:
        parser.error(f"--hold-out {options.hold_out}; pass a share from 0 to below 0.5")
    combine = tuple(options.combine or COMBINE)
    kinds = tuple(options.kind or KINDS)
    everything = read_emoji(json.loads(data.read_text(encoding="utf-8")))
    chosen = choose(
        without_shared(everything, source), () if "all" in kinds else kinds, combine, options.least
    )
    options.out.mkdir(parents=True, exist_ok=True)
    pictures = source
    if options.size:
        pictures = options.out / f"pictures-{options.size}"
        write_pictures(chosen, source, pictures, options.size)
    for name, emoji in split(chosen, options.hold_out, options.seed).items():
        if emoji:
            write_manifest(options.out / f"{name}.csv", emoji, combine, pictures)
            count = Counter(each.label(combine) for each in emoji).values()
            designs = len({each.design for each in emoji})
            print(
                f"{name}.csv: {len(emoji)} pictures of {designs} designs, "
                f"{len(count)} combinations of {min(count)} to {max(count)} pictures"
            )


def _pixels(file: Path) -> Image.Image:
    with Image.open(file) as picture:
        return picture.convert("RGBA")


def _text(name: str) -> str:
    return name.lower().replace(" & ", "-").replace(" ", "-")


if __name__ == "__main__":
    main()
