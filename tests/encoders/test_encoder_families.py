"""Every family computes what its reference package computes, and says what is wrong with input.

The comparisons are those of benchmarks/reference_equality.py, here the cheap ones.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from gmvaluator.encoders import (
    clip,
    dreamsim,
    efficientnet,
    lpips,
    stlpips,
    timm,
    torchvision,
)
from gmvaluator.encoders.backends import torch_module
from gmvaluator.encoders.base import Network
from gmvaluator.errors import InputError, MissingPackageError, MissingWeightsError
from gmvaluator.weights import LocalWeightFile, Weights, weights_digest

OFFLINE = Weights(offline=True)


def load_benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "reference_equality.py"
    spec = importlib.util.spec_from_file_location("reference_equality", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


equality: Any = load_benchmark()


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    shapes = ((28, 28, 3), (40, 60, 3), (90, 33, 3), (64, 64, 3))
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


def noise(size: int, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


# --- equality with the reference implementations


@pytest.mark.parametrize("variant", ["alex", "squeeze"])
def test_lpips_is_the_packages_distance(
    variant: str, tmp_path: Path, images: list[np.ndarray]
) -> None:
    pytest.importorskip("lpips")
    row = equality.compare_lpips(variant, tmp_path, images)
    assert row.difference <= 1e-4, row


@pytest.mark.parametrize(("variant", "size"), [("alex", None), ("vgg", None), ("alex", 45)])
def test_st_lpips_is_the_packages_distance(
    variant: str, size: int | None, tmp_path: Path, images: list[np.ndarray]
) -> None:
    if importlib.util.find_spec("stlpips_pytorch") is None:
        pytest.skip("stlpips_pytorch is not installed")
    row = equality.compare_st_lpips(variant, tmp_path, images, size=size)
    assert row.difference <= 1e-4, row


def test_efficientnet_lite0_logits_are_exact(images: list[np.ndarray]) -> None:
    row = equality.compare_efficientnet_lite0(images)
    assert row.difference == 0.0, row


@pytest.mark.parametrize("name", ["alexnet", "densenet121"])
def test_torchvision_features_are_those_before_the_classifier(
    name: str, tmp_path: Path, images: list[np.ndarray]
) -> None:
    row = equality.compare_torchvision(name, tmp_path, images, size=64)
    assert row.difference <= 1e-5, row


def test_clip_is_open_clip_with_its_preprocessing(tmp_path: Path, images: list[np.ndarray]) -> None:
    pytest.importorskip("open_clip")
    row = equality.compare_clip("ViT-B-32/openai", tmp_path, images)
    assert row.difference <= 1e-4, row


def test_dreamsim_is_the_packages_distance(
    tmp_path: Path, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("dreamsim") is None or importlib.util.find_spec("peft") is None:
        pytest.skip("dreamsim is not installed")
    with equality.quiet():
        loader = importlib.import_module("dreamsim.feature_extraction.load_clip_as_dino")
        vits = importlib.import_module("dreamsim.feature_extraction.vision_transformer")
    # two of twelve equal blocks: the benchmark compares whole transformers
    shallow = partial(
        vits.VisionTransformer,
        embed_dim=768,
        depth=2,
        num_heads=12,
        qkv_bias=True,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    )
    monkeypatch.setattr(vits, "vit_base", shallow)
    monkeypatch.setattr(loader, "vit_base", shallow)
    monkeypatch.setattr(dreamsim, "DEPTH", 2)
    row = equality.compare_dreamsim("clip_vitb32", tmp_path, images)
    assert row.difference <= 1e-4, row


# --- laws


@pytest.fixture(scope="module", params=["efficientnet-lite0:root@64", "st-lpips:alex@32"])
def network(request: pytest.FixtureRequest) -> Network:
    if request.param.startswith("efficientnet"):
        return efficientnet.build(None, 64, OFFLINE)
    if OFFLINE.locate("st-lpips:alex") is None:
        pytest.skip("stlpips_pytorch is not installed")
    return stlpips.build(None, None, OFFLINE)


def test_network_is_frozen_and_named(network: Network, request: pytest.FixtureRequest) -> None:
    assert network.name in request.node.name
    assert network.name.endswith(f"@{network.preprocessing.size}")
    module = torch_module(network)
    assert not any(part.training for part in module.modules())
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert [len(file.sha256) for file in network.weights] == [64]


def test_an_images_vector_does_not_depend_on_its_batch(network: Network) -> None:
    pixels = noise(network.preprocessing.size, 4)
    module = torch_module(network)
    whole = module(pixels)
    assert whole.dtype == torch.float32
    assert whole.ndim == 2
    for row in range(4):
        single = module(pixels[row : row + 1])[0]
        # of the vector: a root enlarges the rounding of entries near 0
        assert torch.linalg.norm(single - whole[row]) <= 1e-5 * torch.linalg.norm(whole[row])


def test_st_lpips_vector_has_the_length_of_its_layers() -> None:
    if OFFLINE.locate("st-lpips:alex") is None:
        pytest.skip("stlpips_pytorch is not installed")
    for size, length in ((32, 36_288), (64, 158_144)):
        network = stlpips.build("alex", size, OFFLINE)
        assert torch_module(network)(noise(size, 1)).shape == (1, length)


def test_blur_pool_keeps_constants_and_halves_sides() -> None:
    pool = stlpips.BlurPool(2)
    for side, halved in ((8, 5), (9, 6)):
        result = pool.forward(torch.full((1, 2, side, side), 3.0))
        assert result.shape == (1, 2, halved, halved)
        torch.testing.assert_close(result, torch.full_like(result, 3.0))


def test_dreamsim_normalisation_makes_cosine_and_distance_agree() -> None:
    a, b = dreamsim.centred_unit(torch.randn(2, 50, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(a.sum(), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close((a - b).square().sum(), 2 * (1 - a @ b))


def test_dinov2_positions_are_resized_smoothly() -> None:
    flat = torch.cat([torch.full((1, 1, 4), 7.0), torch.full((1, 37 * 37, 4), 2.0)], dim=1)
    resized = dreamsim._resized_positions(flat, 16)
    assert resized.shape == (1, 1 + 16 * 16, 4)
    torch.testing.assert_close(resized[:, 0], flat[:, 0])
    torch.testing.assert_close(resized[:, 1:], torch.full((1, 256, 4), 2.0))
    same = torch.randn(1, 1 + 16 * 16, 4)
    assert torch.equal(dreamsim._resized_positions(same, 16), same)


# --- weights of other origin


def test_densenet_reads_the_old_names_of_published_files(tmp_path: Path) -> None:
    import torchvision as package

    torch.manual_seed(0)
    state = package.models.densenet121(weights=None).state_dict()
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.")
        if "denselayer" in key
        else key: v
        for key, v in state.items()
        if "num_batches" not in key
    }
    assert old.keys() - state.keys()
    torch.save(old, tmp_path / "old.pth")
    torch.save(state, tmp_path / "new.pth")
    networks = [
        torchvision.build_densenet121(
            None, 32, Weights({"torchvision:densenet121": tmp_path / f"{age}.pth"})
        )
        for age in ("old", "new")
    ]
    vectors = [torch_module(network)(noise(32)) for network in networks]
    assert torch.equal(*vectors)
    assert vectors[0].shape == (3, 1024)


def test_timm_model_is_timms_own(tmp_path: Path) -> None:
    import timm as package

    torch.manual_seed(0)
    model: Any = package.create_model("resnet18", num_classes=10)
    torch.save(model.state_dict(), tmp_path / "resnet18.pth")
    network = timm.build("resnet18", 64, Weights({"timm:resnet18": tmp_path / "resnet18.pth"}))
    model.reset_classifier(0)
    pixels = noise(64)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    x = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(torch_module(network)(pixels), model.eval()(x), rtol=1e-4, atol=1e-5)
    assert network.preprocessing.fit == "crop"
    assert network.preprocessing.interpolation == "bicubic"
    assert network.metric == "centred-cosine"


def test_timm_transformer_takes_another_size(tmp_path: Path) -> None:
    import timm as package

    torch.manual_seed(0)
    name = "vit_tiny_patch16_224"
    path = tmp_path / "vit.pth"
    torch.save(package.create_model(name).state_dict(), path)
    network = timm.build(name, 96, Weights({f"timm:{name}": path}))
    assert network.preprocessing.size == 96
    assert torch_module(network)(noise(96)).shape == (3, 192)


def test_timm_weights_come_from_the_models_hub_address() -> None:
    with pytest.raises(MissingWeightsError, match=r"timm/resnet34\.\w+/resolve/main/model\.safe"):
        timm.build("resnet34", None, Weights(cache_dir=Path("nowhere"), offline=True))


def test_clip_weights_come_from_open_clips_hub_address() -> None:
    open_clip = pytest.importorskip("open_clip")
    hub = open_clip.get_pretrained_cfg("ViT-B-32", "openai").get("hf_hub", "")
    sources = clip._sources(open_clip.get_pretrained_cfg("ViT-B-32", "openai"))
    assert sources
    assert all(source.startswith(f"hf:{hub.rstrip('/')}/") for source in sources)
    with pytest.raises(MissingWeightsError, match="clip:ViT-B-32/openai"):
        clip.build(None, None, Weights(cache_dir=Path("nowhere"), offline=True))


# --- errors


def wrong_file(folder: Path) -> LocalWeightFile:
    path = folder / "wrong.pth"
    torch.save({"weight": torch.zeros(2)}, path)
    return LocalWeightFile("wrong", path, weights_digest(path))


@pytest.mark.parametrize(
    ("build", "key"),
    [
        (efficientnet.build, "efficientnet-lite0"),
        (stlpips.build, "st-lpips:alex"),
        (lpips.build, "lpips:alex"),
        (torchvision.build_alexnet, "torchvision:alexnet"),
        (dreamsim.build, "dreamsim:ensemble"),
    ],
)
def test_weights_of_another_network_are_refused(build: Any, key: str, tmp_path: Path) -> None:
    file = wrong_file(tmp_path)
    with pytest.raises(InputError, match=r"wrong\.pth"):
        build(None, None, Weights({key: file.path}, offline=True))


def test_efficientnet_of_another_order_is_refused(tmp_path: Path) -> None:
    from gmvaluator.weights import load_state

    file = OFFLINE.resolve("efficientnet-lite0")
    state = dict(reversed(load_state(file.path).items()))
    torch.save(state, tmp_path / "reversed.pth")
    with pytest.raises(InputError, match="296 tensors that do not match"):
        efficientnet.build(None, None, Weights({"efficientnet-lite0": tmp_path / "reversed.pth"}))


def test_negative_lpips_weights_have_no_vector(tmp_path: Path) -> None:
    path = tmp_path / "negative.pth"
    torch.save({"lin0.model.1.weight": torch.tensor([[[[0.5]], [[-0.1]]]])}, path)
    with pytest.raises(InputError, match="non-negative"):
        lpips.build(None, None, Weights({"lpips:alex": path}))


@pytest.mark.parametrize(
    ("build", "variant", "size", "wanted"),
    [
        (lpips.build, "resnet", None, "alex, vgg, squeeze"),
        (lpips.build, "alex", 20, "at least 31"),
        (stlpips.build, "squeeze", None, "alex, vgg"),
        (stlpips.build, "vgg", 17, "at least 18"),
        (dreamsim.build, "resnet50", None, "dino_vitb16"),
        (dreamsim.build, None, 128, "224 px only"),
        (torchvision.build_alexnet, "big", None, "no variants"),
        (torchvision.build_alexnet, None, 62, "at least 63"),
        (torchvision.build_densenet121, None, 28, "at least 29"),
        (efficientnet.build, "lite1", None, "root, plain"),
        (timm.build, None, None, "timm:resnet18"),
        (timm.build, "resnet1888", None, "resnet18"),
    ],
)
def test_impossible_requests_say_what_is_possible(
    build: Any, variant: str | None, size: int | None, wanted: str
) -> None:
    with pytest.raises(InputError, match=wanted):
        build(variant, size, OFFLINE)


def test_clip_requests_are_checked_against_open_clips_lists() -> None:
    pytest.importorskip("open_clip")
    for variant, size, wanted in (
        ("ViT-B-33/openai", None, "ViT-B-32"),
        ("ViT-B-32/nobody", None, "laion2b_s34b_b79k"),
        ("ViT-B-32", None, "openai"),
        (None, 96, "224 px only"),
    ):
        with pytest.raises(InputError, match=wanted):
            clip.build(variant, size, OFFLINE)


def test_clip_without_its_package_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingPackageError, match=r"pip install .*'open.clip.torch<"):
        clip.build(None, None, OFFLINE)


def test_dreamsim_folder_without_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ensemble_lora holds no readable LoRA adapter"):
        dreamsim.build(None, None, Weights({"dreamsim:ensemble": tmp_path}, offline=True))


def test_dreamsim_adapter_must_cover_every_branch(tmp_path: Path) -> None:
    config = '{"r": 2, "lora_alpha": 4, "bias": "none"}'
    (tmp_path / "adapter_config.json").write_text(config, encoding="utf-8")
    prefix = "base_model.model.extractor_list.0.model.blocks.0.attn.qkv"
    a, b = torch.randn(2, 5), torch.randn(7, 2)
    state = {f"{prefix}.lora_A.weight": a, f"{prefix}.lora_B.weight": b}
    torch.save(state, tmp_path / "adapter_model.bin")
    (update,) = dreamsim.read_updates(tmp_path, 1)
    torch.testing.assert_close(update["blocks.0.attn.qkv"], 2 * b @ a)
    with pytest.raises(InputError, match="lacks updates"):
        dreamsim.read_updates(tmp_path, 2)
