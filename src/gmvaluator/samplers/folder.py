"""Drawing into a folder: one request per folder, whole files only. A killed draw goes on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmvaluator.arguments import whole_number
from gmvaluator.errors import InputError, RunError, pass_overwrite
from gmvaluator.files.atomic import publish_file, remove_leftovers
from gmvaluator.generators.randomness import derived_seed
from gmvaluator.images.decoding import encode_png
from gmvaluator.images.ids import letters
from gmvaluator.progress import Progress, Silent
from gmvaluator.samplers.base import Label, Sampler
from gmvaluator.samplers.output import to_images
from gmvaluator.shown import short_repr

# Hidden, so that a set opened from the folder does not list it as a broken image.
MANIFEST = ".sample.json"


@short_repr
@dataclass(frozen=True)
class Drawn:
    """Where the images of a request are; `paths[i]` and `labels[i]` belong to image i."""

    folder: Path
    paths: tuple[Path, ...]
    labels: tuple[Label, ...] | None
    n_kept: int  # images that an earlier, interrupted draw had left


def draw(
    sampler: Sampler,
    m: int,
    out: str | Path,
    *,
    seed: int = 0,
    batch_size: int = 64,
    labels: Sequence[Label] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Drawn:
    """Write m images as PNG files 000000.png … into `out`, in a sub-folder a label if known.

    `labels` has one entry per image: a name or number of a class. Without labels, images take the
    classes in turn. A text that is a name and a number is read as a name.

    The seed of a batch follows from `seed` and the batch's number. So an interrupted draw ends with
    the same files as an uninterrupted draw. Files are written whole: a killed draw leaves no half
    image. A callable is identified by its name only: after a change, draw into a new folder.
    `progress` receives a stage "draw" of m images, batch by batch.

    Raises:
        InputError: a number or the labels do not fit, or the model did not return n images.
        RunError: `out` holds another request (unless `overwrite`), holds files of no draw, or
            cannot be written.
    """
    m, batch_size = whole_number("m", m, 1), whole_number("batch_size", batch_size, 1)
    seed = whole_number("seed", seed, 0)
    folder = Path(out)
    image_labels = _labels(sampler, m, labels)
    request = {
        "sampler": sampler.name,
        "fingerprint": sampler.fingerprint,
        "m": m,
        "seed": seed,
        "batch_size": batch_size,
        "pixel_range": sampler.pixel_range,
        "labels": None if image_labels is None else list(image_labels),
    }
    paths = _paths(folder, m, image_labels)
    _claim(folder, request, overwrite=overwrite)
    n_kept = 0
    with (progress or Silent()).stage("draw", m) as advance:
        for start in range(0, m, batch_size):
            rows = range(start, min(start + batch_size, m))
            missing = [i for i in rows if not paths[i].is_file()]
            n_kept += len(rows) - len(missing)
            if missing:
                batch_labels = None if image_labels is None else image_labels[start : rows.stop]
                images = to_images(
                    sampler.draw(len(rows), derived_seed(seed, start // batch_size), batch_labels),
                    len(rows),
                    sampler.pixel_range,
                )
                for i in missing:
                    _publish(paths[i], encode_png(images[i - start]))
            advance(len(rows))
    return Drawn(folder, paths, image_labels, n_kept)


def _labels(sampler: Sampler, m: int, labels: Sequence[Label] | None) -> tuple[Label, ...] | None:
    names = sampler.label_names
    if labels is None:
        return tuple(names[i % len(names)] for i in range(m)) if names else None
    if not sampler.takes_labels:
        raise InputError(f"{sampler.name} takes no labels; leave them out.")
    if len(labels) != m:
        raise InputError(f"Got {len(labels)} labels for {m} images; pass one for each image.")
    if not names:
        return tuple(label if isinstance(label, str) else int(label) for label in labels)
    return tuple(_name(label, names) for label in labels)


def _name(label: Label, names: Sequence[str]) -> str:
    """The name of a class, from its name or its number. Names take precedence."""
    by_letters = {letters(name): name for name in names}
    if isinstance(label, str) and letters(label) in by_letters:
        return by_letters[letters(label)]
    numbers = {str(i): name for i, name in enumerate(names)}
    if str(label) not in numbers:
        first_names = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
        raise InputError(
            f"Label {label!r} is not one of the classes 0 to {len(names) - 1} ({first_names})."
        )
    return numbers[str(label)]


def _paths(folder: Path, m: int, labels: tuple[Label, ...] | None) -> tuple[Path, ...]:
    names = [f"{i:06d}.png" for i in range(m)]
    if labels is None:
        return tuple(folder / name for name in names)
    folders = {label: _folder_name(str(label)) for label in set(labels)}
    return tuple(folder / folders[label] / name for label, name in zip(labels, names, strict=True))


def _folder_name(label: str) -> str:
    """The label itself if it is valid on every file system, else a readable, distinct name."""
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9 _-]{0,60}", label) and not label.endswith(" "):
        return label
    digest = hashlib.blake2b(label.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', label)[:48].strip('-') or 'label'}-{digest}"


def _claim(folder: Path, request: dict[str, Any], *, overwrite: bool) -> None:
    """Write the request to a new folder, or check that the folder holds the same request."""
    manifest = folder / MANIFEST
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder, recursive=True)
        if not manifest.exists():
            # a draw that was killed before its manifest was there leaves a hidden scratch file
            if any(not entry.name.startswith(".") for entry in folder.iterdir()):
                raise RunError(f"{folder} holds files that no draw wrote; choose a new folder.")
            _publish(manifest, json.dumps(request, indent=1).encode())
            return
        held = json.loads(manifest.read_text("utf-8"))
        if changed := _changed(held, request):
            if not overwrite:
                raise RunError(
                    f"{folder} holds another draw (different: {', '.join(changed)}); choose a new "
                    f"folder or {pass_overwrite()} to replace it."
                )
            labels = held["labels"]
            _remove(folder, _paths(folder, held["m"], None if labels is None else tuple(labels)))
            _publish(manifest, json.dumps(request, indent=1).encode())
    except OSError as error:
        raise RunError(f"Cannot write {folder}: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{manifest} is damaged; delete {folder} or choose another.") from error


def _changed(held: dict[str, Any], request: dict[str, Any]) -> list[str]:
    """Keys that differ between two requests. The same model file in another folder is equal."""
    differences = [key for key in request if held.get(key) != request[key]]
    if differences != ["sampler"] or not request["fingerprint"]:
        return differences
    names = {Path(str(record.get("sampler"))).name for record in (held, request)}
    return [] if len(names) == 1 else differences


def _remove(folder: Path, paths: Sequence[Path]) -> None:
    """Delete the images of an earlier draw, and the sub-folders that this empties."""
    for path in paths:
        path.unlink(missing_ok=True)
        parent = path.parent
        if parent != folder and parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()


def _publish(path: Path, content: bytes) -> None:
    with publish_file(path) as part:
        part.write_bytes(content)
