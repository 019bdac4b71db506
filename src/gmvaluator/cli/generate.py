"""`gmvaluator train-generator` and `sample`: generative models, and images that they draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gmvaluator.cli.claims import claim
from gmvaluator.cli.help import verb
from gmvaluator.cli.options import (
    OVERWRITE,
    PIXEL_LIMIT,
    PRINTING,
    SEED,
    flag,
    option,
    options,
    out,
    pair,
)
from gmvaluator.cli.printing import chosen_progress, print_result
from gmvaluator.cli.sources import open_images


@verb("train-generator beta-vae train/ --out generator.safetensors", "train-generator")
@click.argument("name")
@click.argument("data")
@options(
    out("File to write the trained network to (.safetensors).", required=True),
    OVERWRITE,
    option("--steps", "Training steps. Default: the family's own number.", type=int),
    SEED,
    flag("--conditional", "Learn classes from labels (ddpm and biggan always do)."),
    option(
        "--set KEY=VALUE",
        "A setting of the family, such as latent=16 or hidden=512,256. Default: the family's "
        "own settings.",
        to="settings",
        multiple=True,
    ),
    option(
        "--checkpoint-every",
        "Steps between checkpoints; an interrupted training goes on from the last one. Default: "
        "a twentieth of the steps.",
        type=int,
    ),
    option("--keep", "Number of evenly spaced snapshots to keep.", default=0),
    option("--threads", "Processor threads. Default: all processors.", type=int),
    PIXEL_LIMIT,
    *PRINTING,
)
def train_generator(
    name: str,
    data: str,
    out: Path,
    steps: int | None,
    seed: int,
    conditional: bool,
    settings: tuple[str, ...],
    checkpoint_every: int | None,
    keep: int,
    threads: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train a small generative model on the images of DATA.

    NAME is beta-vae, conv-beta-vae, gan, dcgan, ddpm or biggan. The same command, given again,
    resumes an interrupted training.
    """
    from gmvaluator.generators.training import train_generator as train

    claim(out)
    trained = train(
        name,
        open_images(data),
        out,
        steps=steps,
        seed=seed,
        settings=dict(pair(text, "--set KEY=VALUE", str) for text in settings),
        conditional=conditional or None,
        checkpoint_every=checkpoint_every,
        keep=keep,
        threads=threads,
        overwrite=overwrite,
        progress=chosen_progress(),
    )
    print_result(trained.as_json(), trained.as_text(), as_json=as_json)


@verb("sample demo -m 200 --out generated/")
@click.argument("model")
@options(
    out("Folder to write the images to.", required=True),
    OVERWRITE,
    click.option("-m", "--number", type=int, required=True, help="Number of images to draw."),
    SEED,
    option("--batch-size", "Number of images drawn at once.", default=64),
    option(
        "--latent",
        "Length of the latent code of a TorchScript or torch.export file. Default: the model's "
        "own, where it says one.",
        type=int,
    ),
    option(
        "--pixel-range",
        "Range of the model's output. unit: 0 to 1; symmetric: -1 to 1.",
        type=click.Choice(["unit", "symmetric"]),
        default="unit",
    ),
    option(
        "--steps",
        "Denoising steps of a ddpm or a diffusers pipeline. Default: the model's own number.",
        type=int,
    ),
    option(
        "--guidance",
        "Guidance scale of a ddpm; 1: no guidance. Default: the model's own.",
        type=float,
    ),
    option(
        "--truncation",
        "Bound on the latent codes of a GAN; 0: no bound. Default: the model's own.",
        type=float,
    ),
    option(
        "--label CLASS",
        "Class (name or number) or prompt to draw. Several take turns. Default: all classes.",
        to="labels",
        multiple=True,
    ),
    option("--device", "Torch device that draws, such as cpu or cuda:1.", default="cpu"),
    *PRINTING,
)
def sample(
    model: str,
    number: int,
    out: Path,
    seed: int,
    batch_size: int,
    latent: int | None,
    pixel_range: Any,
    steps: int | None,
    guidance: float | None,
    truncation: float | None,
    labels: tuple[str, ...],
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draw images from a generative MODEL into a folder.

    MODEL is `demo`, a generator of this package (.safetensors), a TorchScript (.pt) or
    torch.export (.pt2) file, a diffusers pipeline (folder or hub id) or package.module:callable.
    """
    from gmvaluator.samplers import draw, load_sampler

    claim(out)
    sampler = load_sampler(
        model,
        latent=latent,
        pixel_range=pixel_range,
        inference_steps=steps,
        guidance=guidance,
        truncation=truncation,
        device=device,
    )
    drawn = draw(
        sampler,
        number,
        out,
        seed=seed,
        batch_size=batch_size,
        labels=[labels[i % len(labels)] for i in range(number)] if labels else None,
        overwrite=overwrite,
        progress=chosen_progress(),
    )
    summary = {"out": str(out), "n": len(drawn.paths), "kept": drawn.n_kept}
    earlier = f" ({drawn.n_kept} were there already)" if drawn.n_kept else ""
    print_result(summary, f"{len(drawn.paths)} images in {out}{earlier}", as_json=as_json)
