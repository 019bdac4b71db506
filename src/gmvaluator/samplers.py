"""Draw m images from a generative model into a folder (step 1 of GMValuator's Algorithm 1).

Source of the algorithm: Yang et al., ICLR 2025, arXiv 2304.10701. A model is a Python callable,
a TorchScript or torch.export file, a diffusers pipeline or a generator of this package.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError, MissingPackageError, MissingWeightsError, RunError

# Hidden, so that a set opened from the folder does not list it as a broken image.
MANIFEST = ".sample.json"
SPECS = (
    "'demo', a generator saved by gmvaluator (.safetensors), a TorchScript (.pt) or torch.export "
    "(.pt2) file, a diffusers folder or hub id (org/name), 'package.module:callable'; in Python "
    "also a callable, a torch module or a diffusers pipeline"
)
Label = int | str
PixelRange = Literal["unit", "symmetric"]
# What a model may return for n images; see `to_images`.
DrawBatch = Callable[[int, int, Sequence[Label] | None], object]


@dataclass(frozen=True)
class Sampler:
    """A model that images can be drawn from.

    Attributes:
        name: how the model was named; part of the request that a folder holds.
        draw: (n, seed, labels) → n images in a form that `to_images` takes.
        takes_labels: whether the model can be asked for a class or prompt for each image.
        classes: with no labels given, images go to classes 0 … classes − 1 in turn; 0 = never.
        pixel_range: what the floats of its images span: [0, 1] (unit) or [−1, 1] (symmetric).
        fingerprint: changes with the model's file where it has one, else empty.
    """

    name: str
    draw: DrawBatch
    takes_labels: bool = False
    classes: int = 0
    pixel_range: PixelRange = "unit"
    fingerprint: str = ""


@dataclass(frozen=True)
class Drawn:
    """Where the images of a request are; `paths[i]` and `labels[i]` belong to image i."""

    folder: Path
    paths: tuple[Path, ...]
    labels: tuple[Label, ...] | None
    n_kept: int  # images that an earlier, interrupted draw had left


def load_sampler(
    spec: str | os.PathLike[str] | Callable[..., object],
    *,
    latent: int | tuple[int, ...] | None = None,
    pixel_range: PixelRange = "unit",
    inference_steps: int | None = None,
    device: str = "cpu",
) -> Sampler:
    """Open a model to draw from.

    Args:
        spec: a callable f(n, seed), f(n) or either with a keyword `labels`; the import path
            'package.module:callable' of one; a TorchScript (.pt) or torch.export (.pt2) file
            or module (in eval mode) that maps latent codes (B, *latent) to images; a diffusers
            pipeline (folder, hub id or object); a .safetensors file saved by
            `gmvaluator.generators`; or 'demo'. Callables and pipelines run their code: load only
            models you trust.
        latent: length or shape of one latent code; a .pt2 file knows it, a .pt file does not.
        pixel_range: what the floats of a callable's or file's images span.
        inference_steps: denoising steps of a diffusers pipeline; None = its own default.
        device: torch device for files and pipelines.

    Raises:
        InputError: `spec` is none of these, or its file cannot be opened as what it says.
        MissingPackageError: diffusers is needed and not installed.
        MissingWeightsError: a hub id cannot be reached.
    """
    if pixel_range not in ("unit", "symmetric"):
        raise InputError(f"pixel_range={pixel_range!r}; pass 'unit' or 'symmetric'.")
    if callable(spec):
        return _from_object(spec, latent, pixel_range, inference_steps, device)
    text = os.fspath(spec)
    path = Path(text)
    if text == "demo":
        return _from_generator(None)
    if (path / "model_index.json").is_file():
        return _from_diffusers(text, inference_steps, device)
    if path.is_file():
        if path.suffix == ".safetensors":
            return _from_generator(path)
        if path.suffix in (".pt", ".pth", ".pt2", ".ts"):
            return _from_network(path, latent, pixel_range, device)
    elif path.suffix in (".safetensors", ".pt", ".pth", ".pt2", ".ts"):
        raise InputError(f"There is no file {text}; check the path.")
    elif re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", text):
        return _from_callable(_import(text), text, pixel_range)
    elif not path.exists() and re.fullmatch(r"(hf:)?[\w.-]+/[\w.-]+", text):
        return _from_diffusers(text.removeprefix("hf:"), inference_steps, device)
    raise InputError(f"{text!r} is no model that can be drawn from; pass {SPECS}.")


def draw(
    sampler: Sampler,
    m: int,
    out: str | Path,
    *,
    seed: int = 0,
    batch_size: int = 64,
    labels: Sequence[Label] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Drawn:
    """Write m images as PNG files 000000.png … into `out`, in a sub-folder a label if known.

    Each batch has its own seed, derived from `seed` and its number, so a draw that was
    interrupted and is started again ends with the same files as one that was not. Files are
    published whole: a killed draw leaves no half image. A callable is known by its name only:
    after a change to it, draw into a new folder. `progress(done, m)` is called after each batch.

    Raises:
        InputError: labels do not fit, or the model returned something that is not n images.
        RunError: `out` holds another request (unless `overwrite`), holds files that no draw
            wrote, or cannot be written.
    """
    if m < 1 or batch_size < 1 or seed < 0:
        raise InputError(f"m={m}, batch_size={batch_size}, seed={seed}; pass m ≥ 1, batch_size ≥ 1"
                         " and seed ≥ 0.")  # fmt: skip
    folder = Path(out)
    chosen = _labels(sampler, m, labels)
    request = {
        "sampler": sampler.name,
        "fingerprint": sampler.fingerprint,
        "m": m,
        "seed": seed,
        "batch_size": batch_size,
        "pixel_range": sampler.pixel_range,
        "labels": None if chosen is None else list(chosen),
    }
    paths = _paths(folder, m, chosen)
    _claim(folder, request, overwrite=overwrite)
    n_kept = 0
    for start in range(0, m, batch_size):
        rows = range(start, min(start + batch_size, m))
        missing = [i for i in rows if not paths[i].is_file()]
        n_kept += len(rows) - len(missing)
        if missing:
            asked = None if chosen is None else chosen[start : rows.stop]
            images = to_images(
                sampler.draw(len(rows), _batch_seed(seed, start // batch_size), asked),
                len(rows),
                sampler.pixel_range,
            )
            for i in missing:
                _publish(paths[i], _png(images[i - start]))
        if progress is not None:
            progress(rows.stop, m)
    return Drawn(folder, paths, chosen, n_kept)


def to_images(output: object, n: int, pixel_range: PixelRange = "unit") -> list[NDArray[np.uint8]]:
    """What a model returned for n images → n arrays, (H, W) uint8 grey or (H, W, 3) uint8 RGB.

    Accepted: an array or tensor (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3, uint8
    or float that spans `pixel_range`; or a list of PIL images or of such single images. Where
    both orders are possible a tensor is read as channels first, an array as channels last.
    Floats up to 0.01 out of range are clipped. Raises `InputError` for anything else.
    """
    channels_first = hasattr(output, "detach")
    if isinstance(output, list | tuple):
        single = [_single(item, pixel_range) for item in output]
    else:
        single = _split(_as_array(output), pixel_range, channels_first=channels_first)
    if len(single) != n:
        raise InputError(f"The model returned {len(single)} images where {n} were asked for.")
    return single


# --- what models return --------------------------------------------------------------------------


def _single(item: Any, pixel_range: PixelRange) -> NDArray[np.uint8]:
    if hasattr(item, "convert") and hasattr(item, "getbands"):  # a PIL image
        grey = item.getbands() in (("L",), ("1",))
        return np.asarray(item.convert("L" if grey else "RGB"), dtype=np.uint8)
    stack = _as_array(item)[None]
    return _split(stack, pixel_range, channels_first=hasattr(item, "detach"))[0]


def _as_array(output: Any) -> NDArray[Any]:
    if hasattr(output, "detach"):
        output = output.detach().cpu()
        # numpy has no bfloat16.
        output = output.float() if output.is_floating_point() else output
    array = np.asarray(output)
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"The model returned {type(output).__name__} of {array.dtype}; wanted uint8 or float "
            "images (N, H, W[, C]), or a list of PIL images."
        )
    return array


def _split(
    array: NDArray[Any], pixel_range: PixelRange, *, channels_first: bool
) -> list[NDArray[np.uint8]]:
    if array.ndim == 4:
        first, last = array.shape[1] in (1, 3), array.shape[3] in (1, 3)
        if first and (channels_first or not last):
            array = np.moveaxis(array, 1, 3)
    wrong_channels = array.ndim == 4 and array.shape[3] not in (1, 3)
    if array.ndim not in (3, 4) or wrong_channels or 0 in array.shape[1:]:
        raise InputError(
            f"The model returned shape {array.shape}; wanted (N, H, W), (N, H, W, C) or "
            "(N, C, H, W) with C = 1 or 3."
        )
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    return list(np.ascontiguousarray(_as_uint8(array, pixel_range)))


def _as_uint8(array: NDArray[Any], pixel_range: PixelRange) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.size == 0:
        return array.astype(np.uint8)
    low, high = float(array.min()), float(array.max())
    lowest = -1.0 if pixel_range == "symmetric" else 0.0
    # Written so that NaN fails the test.
    if not (low >= lowest - 0.01 and high <= 1.01):
        raise InputError(
            f"The model returned floats from {low:.3g} to {high:.3g}; wanted {lowest:g} to 1. "
            "Return uint8, scale them, or pass pixel_range='symmetric' for −1 to 1."
        )
    unit = np.clip((array - lowest) / (1.0 - lowest), 0.0, 1.0)
    return np.rint(unit * 255.0).astype(np.uint8)


# --- kinds of models -----------------------------------------------------------------------------


def _import(spec: str) -> Callable[..., object]:
    module_name, _, attribute = spec.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"Cannot import {spec}: {error}. Check the name and that its folder is on the "
            "Python path (PYTHONPATH=.)."
        ) from error
    if not callable(found):
        raise InputError(f"{spec} is a {type(found).__name__}; wanted a callable f(n, seed).")
    function: Callable[..., object] = found
    return function


def _from_object(
    spec: Callable[..., object],
    latent: int | tuple[int, ...] | None,
    pixel_range: PixelRange,
    inference_steps: int | None,
    device: str,
) -> Sampler:
    """A callable, a torch module or a diffusers pipeline that is in memory already."""
    owner = getattr(spec, "__module__", None) or "?"
    name = f"{owner}:{getattr(spec, '__qualname__', type(spec).__name__)}"
    if hasattr(spec, "set_progress_bar_config"):
        return _pipeline_sampler(spec, name, inference_steps, device)
    if hasattr(spec, "named_parameters"):
        draw_batch = _code_drawer(spec, name, _code_shape(name, latent), None, device)
        return Sampler(name, draw_batch, pixel_range=pixel_range)
    return _from_callable(spec, name, pixel_range)


def _from_callable(function: Callable[..., object], name: str, pixel_range: PixelRange) -> Sampler:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} has no readable signature; wrap it as f(n, seed).") from error
    kinds = [p.kind for p in parameters.values() if p.name != "labels"]
    positional = sum(
        kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        for kind in kinds
    )
    many = inspect.Parameter.VAR_POSITIONAL in kinds
    if positional == 0 and not many:
        raise InputError(f"{name} takes no number of images; write it as f(n, seed) or f(n).")
    seed_by_name = "seed" in parameters
    takes_labels = "labels" in parameters

    def draw_batch(n: int, seed: int, labels: Sequence[Label] | None) -> object:
        keywords: dict[str, Any] = {"labels": labels} if takes_labels else {}
        if seed_by_name:
            return function(n, seed=seed, **keywords)
        if positional > 1 or many:
            return function(n, seed, **keywords)
        return function(n, **keywords)

    return Sampler(name, draw_batch, takes_labels, pixel_range=pixel_range)


def _from_generator(path: Path | None) -> Sampler:
    from gmvaluator import generators

    generator: generators.Generator
    if path is None:
        generator, name = generators.demo_generator(), "demo"
        weights = resources.files(generators) / generators.DEMO_WEIGHTS
        fingerprint = hashlib.sha256(weights.read_bytes()).hexdigest()
    else:
        generator = generators.load_generator(path)
        name, fingerprint = str(path), _sha256(path)

    def draw_batch(n: int, seed: int, labels: Sequence[Label] | None) -> object:
        return generator.sample(n, None if labels is None else [int(i) for i in labels], seed)

    classes = generator.classes
    return Sampler(name, draw_batch, classes > 0, classes, fingerprint=fingerprint)


def _from_network(
    path: Path, latent: int | tuple[int, ...] | None, pixel_range: PixelRange, device: str
) -> Sampler:
    network, fixed_batch, known = _open_network(path, device)
    shape = known or _code_shape(str(path), latent)
    draw_batch = _code_drawer(network, str(path), shape, fixed_batch, device)
    return Sampler(str(path), draw_batch, pixel_range=pixel_range, fingerprint=_sha256(path))


def _code_shape(name: str, latent: int | tuple[int, ...] | None) -> tuple[int, ...]:
    shape = (latent,) if isinstance(latent, int) else latent
    if not shape or min(shape) < 1:
        raise InputError(f"{name} does not say how long a latent code is; pass latent=…, say 128.")
    return shape


def _code_drawer(
    network: Callable[..., Any],
    name: str,
    shape: tuple[int, ...],
    fixed_batch: int | None,
    device: str,
) -> DrawBatch:
    """Standard normal codes (B, *shape) through a network, B at a time if its batch is fixed."""
    import torch

    def draw_batch(n: int, seed: int, labels: Sequence[Label] | None) -> object:
        del labels  # such a sampler takes none
        generator = torch.Generator().manual_seed(seed)
        size = fixed_batch or n
        chunks = []
        for _ in range(0, n, size):
            codes = torch.randn((size, *shape), generator=generator).to(device)
            try:
                with torch.no_grad():
                    chunks.append(network(codes))
            except (RuntimeError, AssertionError, ValueError, TypeError) as error:
                raise InputError(
                    f"{name} fails on latent codes of shape {tuple(codes.shape)}: "
                    f"{_reason(error)}; pass the right latent=…"
                ) from error
        return torch.cat(chunks)[:n]

    return draw_batch


def _open_network(
    path: Path, device: str
) -> tuple[Callable[..., Any], int | None, tuple[int, ...] | None]:
    """The network in a .pt or .pt2 file, its fixed batch size and its code shape, where known."""
    import torch

    try:
        if path.suffix == ".pt2":
            program = torch.export.load(path)
            shape = _input_shape(program)
            fixed = shape[0] if isinstance(shape[0], int) else None
            return program.module().to(device), fixed, tuple(int(side) for side in shape[1:])
        if not _is_torchscript(path):
            raise InputError(
                f"{path} is a pickled file or no torch file; opening it could run any code, so it "
                "is refused. Export the model: torch.export.save (.pt2) or torch.jit.save (.pt)."
            )
        script: Any = torch.jit.load(path, map_location=device)  # type: ignore[no-untyped-call]
        return script.eval(), None, None
    except InputError:
        raise
    except (RuntimeError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be opened as a network: {_reason(error)}") from error


def _input_shape(program: Any) -> Sequence[Any]:
    inputs = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        if node.op == "placeholder" and len(inputs) == 1 and node.name in inputs:
            shape: Sequence[Any] = node.meta["val"].shape
            return shape
    raise InputError(f"The exported network takes {len(inputs)} inputs; wanted one: latent codes.")


def _is_torchscript(path: Path) -> bool:
    """TorchScript archives hold code/ and constants.pkl; torch.save writes only pickles."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any("/code/" in name for name in names) and any("constants.pkl" in n for n in names)


def _from_diffusers(name: str, inference_steps: int | None, device: str) -> Sampler:
    try:
        from diffusers import DiffusionPipeline
    except ImportError as error:
        raise MissingPackageError(
            f"{name} is a diffusers pipeline and diffusers is not installed; "
            "run: pip install 'gmvaluator[diffusers]'"
        ) from error
    folder = Path(name)
    local = folder.is_dir()
    try:
        opener: Any = DiffusionPipeline
        pipeline = opener.from_pretrained(name, local_files_only=local).to(device)
    # Anything: diffusers passes on errors of its HTTP client, of transformers and of JSON.
    except Exception as error:
        wrong = InputError if local else MissingWeightsError
        raise wrong(f"Cannot load the diffusers pipeline {name}: {_reason(error)}") from error
    sampler = _pipeline_sampler(pipeline, name, inference_steps, device)
    return replace(sampler, fingerprint=_folder_fingerprint(folder) if local else "")


def _pipeline_sampler(
    pipeline: Any, name: str, inference_steps: int | None, device: str
) -> Sampler:
    import torch

    pipeline.set_progress_bar_config(disable=True)
    accepted = inspect.signature(type(pipeline).__call__).parameters
    label_keyword = next((k for k in ("prompt", "class_labels") if k in accepted), None)
    needs_labels = label_keyword == "prompt" or (
        label_keyword is not None
        and accepted[label_keyword].default is inspect.Parameter.empty
    )  # fmt: skip

    def draw_batch(n: int, seed: int, labels: Sequence[Label] | None) -> object:
        options: dict[str, Any] = {
            "generator": torch.Generator(device).manual_seed(seed),
            "output_type": "np",
        }
        if inference_steps is not None:
            options["num_inference_steps"] = inference_steps
        if labels is not None and label_keyword is not None:
            wanted = str if label_keyword == "prompt" else int
            options[label_keyword] = [wanted(label) for label in labels]
        elif needs_labels:
            raise InputError(f"{name} needs a {label_keyword} for each image; pass labels=[…].")
        else:
            options["batch_size"] = n
        return pipeline(**{k: v for k, v in options.items() if k in accepted}).images

    steps = f"{inference_steps or 'default'} steps"
    return Sampler(f"{name}, {steps}", draw_batch, label_keyword is not None)


# --- the folder ----------------------------------------------------------------------------------


def _labels(sampler: Sampler, m: int, labels: Sequence[Label] | None) -> tuple[Label, ...] | None:
    if labels is None:
        return tuple(i % sampler.classes for i in range(m)) if sampler.classes else None
    if not sampler.takes_labels:
        raise InputError(f"{sampler.name} takes no labels; leave them out.")
    if len(labels) != m:
        raise InputError(f"Got {len(labels)} labels for {m} images; pass one for each image.")
    if not sampler.classes:
        return tuple(label if isinstance(label, str) else int(label) for label in labels)
    wanted = {str(i): i for i in range(sampler.classes)}
    wrong = next((label for label in labels if str(label) not in wanted), None)
    if wrong is not None:
        raise InputError(f"Label {wrong!r} is not one of the classes 0 to {sampler.classes - 1}.")
    return tuple(wanted[str(label)] for label in labels)


def _paths(folder: Path, m: int, labels: tuple[Label, ...] | None) -> tuple[Path, ...]:
    names = [f"{i:06d}.png" for i in range(m)]
    if labels is None:
        return tuple(folder / name for name in names)
    folders = {label: _folder_name(str(label)) for label in set(labels)}
    return tuple(folder / folders[label] / name for label, name in zip(labels, names, strict=True))


def _folder_name(label: str) -> str:
    """The label itself where every file system takes it, else a readable, distinct stand-in."""
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9 _-]{0,60}", label) and not label.endswith(" "):
        return label
    digest = hashlib.blake2b(label.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', label)[:48].strip('-') or 'label'}-{digest}"


def _claim(folder: Path, request: dict[str, Any], *, overwrite: bool) -> None:
    """Make `folder` hold this request: new, or the same one to go on with."""
    manifest = folder / MANIFEST
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not manifest.exists():
            if any(folder.iterdir()):
                raise RunError(f"{folder} holds files that no draw wrote; choose a new folder.")
            return _publish(manifest, json.dumps(request, indent=1).encode())
        held = json.loads(manifest.read_text("utf-8"))
        if held != request:
            changed = [key for key in request if held.get(key) != request[key]]
            if not overwrite:
                raise RunError(
                    f"{folder} holds another draw (different: {', '.join(changed)}); choose a new "
                    "folder or pass --overwrite (overwrite=True) to replace it."
                )
            labels = held["labels"]
            for path in _paths(folder, held["m"], None if labels is None else tuple(labels)):
                path.unlink(missing_ok=True)
                if (
                    path.parent != folder
                    and path.parent.is_dir()
                    and not any(path.parent.iterdir())
                ):
                    path.parent.rmdir()
            _publish(manifest, json.dumps(request, indent=1).encode())
        for leftover in folder.rglob(".*.part"):
            leftover.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"Cannot write {folder}: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{manifest} is damaged; delete {folder} or choose another.") from error
    return None


def _publish(path: Path, content: bytes) -> None:
    """Write a file in one step, so that it is either whole or not there."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        if part.is_file():
            part.unlink()
        raise RunError(f"Cannot write {path}: {error.strerror or error}.") from error


def _png(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    target = io.BytesIO()
    Image.fromarray(image).save(target, "PNG")
    return target.getvalue()


def _batch_seed(seed: int, batch: int) -> int:
    # 63 bits: torch's generators take signed 64-bit seeds.
    return int(np.random.SeedSequence([seed, batch]).generate_state(1, np.uint64)[0] >> 1)


def _folder_fingerprint(folder: Path) -> str:
    """Changes with any file's name, size or time; hashing gigabytes of weights would take long."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stats = [(str(path.relative_to(folder)), path.stat()) for path in files]
    text = json.dumps([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
    return hashlib.sha256(text.encode()).hexdigest()


def _reason(error: Exception) -> str:
    """The last line of a library's message: the others are its traceback or advice."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
