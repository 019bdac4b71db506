"""The files and folders that the commands of a page name and no block makes: made here, small."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doc_running import run_words

SMALL = {
    "beta-vae": {"hidden": "32", "latent": "8", "optimizer": "sgd", "schedule": "constant"},
    "ddpm": {"width": "8"},
}


def prepare(page: Path) -> None:
    """Make the files that a page names, in the current folder, which holds the sample data."""
    PREPARED.get(page.stem, lambda: None)()


def models(**families: str) -> None:
    """Generator files that a page takes as trained: of a few steps on the sample data."""
    from gmvaluator.generators.training import train_generator

    for name, family in families.items():
        small = SMALL[family]
        train_generator(
            family, "train/", f"{name}.safetensors", steps=4, keep=2, settings=dict(small)
        )


def _fewer(train: int, generated: int) -> None:
    """Delete all but so many images, of all classes, where a method takes long for an image."""
    for folder, count in (("train", train), ("generated", generated)):
        files = sorted(Path(folder).glob("*/*.png"), key=lambda file: file.name)
        for file in files[count:]:
            file.unlink()


def _for_baselines() -> None:
    _fewer(100, 5)
    models(vae="beta-vae", vae0="beta-vae", vae1="beta-vae")
    shutil.copytree("train", "held-out")


def _for_report() -> None:
    """A run of a manifest with licences, and its images in another place as well."""
    rows = [f"{file},CC{i % 3}" for i, file in enumerate(sorted(Path("train").glob("*/*.png")))]
    Path("train.csv").write_text("\n".join(["path,licence", *rows]), encoding="utf-8")
    run_words("gmvaluator value train.csv generated/ --out run/ --no-report")
    shutil.copytree("train", "moved/train")
    shutil.copy("train.csv", "moved/train.csv")


def _for_uncertainty() -> None:
    _fewer(150, 20)
    _for_report()
    shutil.copytree("run", "demo-run")


def _for_owners() -> None:
    _for_report()
    _owners("train.csv")
    _more("generated-in-march")


def _for_index() -> None:
    _fewer(150, 20)
    _owners("train")
    _more("drawn-more")
    Path("more").mkdir()
    for file in Path("drawn-more").glob("*/*.png"):
        file.rename(Path("more", file.name.replace("000", "more")))


def _for_audit() -> None:
    """The images of a run in another place, and a run that was given held-out images."""
    _fewer(150, 20)
    _held_out("those")
    run_words("gmvaluator value train/ generated/ --out run-null/ --null withhold --holdout those/")
    shutil.copytree("train", "here")
    shutil.copytree("generated", "there")


def _owners(train: str) -> None:
    """owners.csv: the images of a folder or manifest are Ann's and Bob's in turn."""
    folder = Path(train)
    if folder.is_dir():
        ids = [file.relative_to(folder).as_posix() for file in sorted(folder.glob("*/*.png"))]
    else:
        ids = [line.split(",")[0] for line in folder.read_text("utf-8").splitlines()[1:]]
    rows = [f"{name},{'Ann' if i % 2 else 'Bob'}" for i, name in enumerate(ids)]
    Path("owners.csv").write_text("\n".join(["train_id,owner", *rows]), encoding="utf-8")


def _more(folder: str) -> None:
    """Generated images that no run has valued."""
    run_words(f"gmvaluator sample demo -m 5 --seed 1 --out {folder}")


def _held_out(folder: str) -> None:
    """120 images of the training images' kind that are none of them: training images turned."""
    from PIL import Image

    Path(folder).mkdir()
    for file in sorted(Path("train").glob("*/*.png"))[::2][:120]:
        with Image.open(file) as image:
            image.transpose(Image.Transpose.ROTATE_180).save(Path(folder, file.name))


def _for_evaluate() -> None:
    """A truth of the sample data, with losses that nobody measured."""
    import numpy as np

    from gmvaluator import ImageSet
    from gmvaluator.evaluation.truth.ground_truth import random_subsets
    from gmvaluator.evaluation.truth.truth_file import TruthFile, key_array

    train, generated = ImageSet.open("train/"), ImageSet.open("generated/")
    images = np.stack(list(generated))[:6]
    losses = np.random.default_rng(0).normal(size=(4, 2, len(images))).astype(np.float32)
    TruthFile(
        model="beta-vae",
        train_name="train",
        train_keys=key_array(train),
        subsets=random_subsets(len(train), 4),
        losses={"elbo": losses},
        what={"elbo": "a loss"},
        images=images,
        image_ids=tuple(f"{row:06d}.png" for row in range(len(images))),
    ).save("truth.npz")


def _for_operator() -> None:
    """train/ once more as a hundred shards."""
    import tarfile

    files = sorted(Path("train").glob("*/*.png"))
    Path("shards").mkdir()
    for number in range(100):
        with tarfile.open(f"shards/train-{number:03d}.tar", "w") as shard:
            for file in files[number::100]:
                shard.add(file, file.name)


def _for_drawing() -> None:
    """A network, a pipeline and a function to draw from."""
    network_file(Path("model.pt2"))
    _pipeline("stable-diffusion")
    Path("mypackage").mkdir()
    Path("mypackage/__init__.py").touch()
    Path("mypackage/models.py").write_text(
        "import numpy as np\n\n\ndef draw(n, seed):\n"
        "    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8), np.uint8)\n",
        encoding="utf-8",
    )


def network_file(file: Path) -> None:
    """A network of torch.export: 16 numbers → an image of 4 × 4."""
    import torch

    class Drawing(torch.nn.Module):
        def forward(self, codes: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(codes).reshape(-1, 1, 4, 4)

    batch = torch.export.Dim("batch", min=1, max=64)
    shapes = ({0: batch},)
    network = torch.export.export(Drawing(), (torch.zeros(2, 16),), dynamic_shapes=shapes)
    torch.export.save(network, file)


def _pipeline(folder: str) -> None:
    """Stable Diffusion with weights of a few kilobytes that learned nothing."""
    import diffusers as untyped
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    diffusers: Any = untyped
    words = ["<|startoftext|>", "<|endoftext|>", *(f"{letter}</w>" for letter in "adehorsu")]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=8)
    text = CLIPTextConfig(
        vocab_size=len(words), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=8, bos_token_id=0, eos_token_id=1,
        pad_token_id=1,
    )  # fmt: skip
    network = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 8), layers_per_block=1, cross_attention_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), norm_num_groups=4,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=4,
    )  # fmt: skip
    pipeline = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, sample_size=8),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=network,
        scheduler=diffusers.DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)


PREPARED: dict[str, Callable[[], None]] = {
    "audit": _for_audit,
    "baselines": _for_baselines,
    "curation": _for_report,
    "evaluate": _for_evaluate,
    "generate": _for_drawing,
    "index": _for_index,
    "operator": _for_operator,
    "owners": _for_owners,
    "report": _for_report,
    "spaces": lambda: models(vae="beta-vae", ddpm="ddpm"),
    "unattributed": lambda: _held_out("never-trained-on"),
    "uncertainty": _for_uncertainty,
}
