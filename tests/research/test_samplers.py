"""Drawing images: kinds of models, what they may return, and folders that survive a kill."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from generator_checks import train_tiny, write_halves
from gmvaluator.errors import InputError, MissingPackageError, RunError
from gmvaluator.generators.beta_vae import BetaVAE, BetaVAEConfig
from gmvaluator.images import ImageSet
from gmvaluator.progress import Advance
from gmvaluator.samplers import MANIFEST, draw, load_sampler, to_images


def noise(n: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, 5, 4, 3), dtype=np.uint8)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.png"))}


class Decoder(torch.nn.Module):
    """Latent (B, 6) → images (B, 3, 4, 4) in [−1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(6, 48)
        with torch.no_grad():
            self.layer.weight.copy_(torch.linspace(-1, 1, 288).reshape(48, 6))
            self.layer.bias.zero_()

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.layer(codes)).reshape(-1, 3, 4, 4)


class Heard:
    """A progress that remembers what it is told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []
        self.steps: list[int] = []

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        self.stages.append((name, total))
        yield self.steps.append


# --- what models return --------------------------------------------------------------------------


def test_all_forms_of_the_same_images_read_alike() -> None:
    pixels = noise(3, 0)
    tensor = torch.from_numpy(pixels)
    forms: list[Any] = [
        pixels,
        tensor,
        tensor.permute(0, 3, 1, 2),
        pixels.transpose(0, 3, 1, 2),
        pixels / 255.0,
        (tensor / 255).permute(0, 3, 1, 2).requires_grad_(),
        [Image.fromarray(image) for image in pixels],
        list(pixels),
        tuple(tensor.permute(0, 3, 1, 2)),
    ]
    for form in forms:
        images = to_images(form, 3)
        assert all(image.dtype == np.uint8 for image in images)
        assert np.array_equal(np.stack(images), pixels)
    symmetric = to_images(pixels / 127.5 - 1.0, 3, "symmetric")
    assert np.array_equal(np.stack(symmetric), pixels)


def test_grey_images_lose_their_single_channel() -> None:
    pixels = noise(2, 1)[..., 0]
    for form in (pixels, pixels[..., None], torch.from_numpy(pixels)[:, None], pixels / 255.0):
        assert np.array_equal(np.stack(to_images(form, 2)), pixels)
    assert to_images([Image.fromarray(pixels[0])], 1)[0].shape == (5, 4)


def test_bfloat16_and_small_overshoot_are_fine() -> None:
    images = to_images(torch.tensor([[[0.0, 1.005]]], dtype=torch.bfloat16), 1)
    assert images[0].tolist() == [[0, 255]]


def test_tensors_of_every_precision_and_layout() -> None:
    tensor = torch.tensor([[[0.0, 1.0]]])
    for form in (tensor.to(torch.float8_e4m3fn), tensor.to_sparse(), tensor.double()):
        assert to_images(form, 1)[0].tolist() == [[0, 255]]


def pictures() -> dict[str, Image.Image]:
    """PIL images of modes that PIL itself turns to RGB by other rules than image sets."""
    wide = Image.fromarray(np.full((16, 16), 40_000, np.uint16))
    turned = Image.fromarray(noise(1, 5)[0])
    turned.getexif()[0x0112] = 6
    seen_through = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    floats = Image.fromarray(np.full((4, 4), 0.5, np.float32))
    return {"16 bits": wide, "turned": turned, "transparent": seen_through, "float": floats}


@pytest.mark.parametrize("kind", pictures())
def test_a_picture_is_drawn_as_it_is_read(kind: str) -> None:
    picture = pictures()[kind]
    (drawn,) = to_images([picture], 1)
    read = ImageSet.open([picture])[0]
    np.testing.assert_array_equal(ImageSet.open([drawn])[0], read)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ([[[1.0, 2.0], [3.0]]] * 2, "The model returned what is no image: list cannot be read"),
        (np.zeros((2, 5, 4), np.int64), "int64"),
        (np.full((2, 5, 4), 200.0), "from 200 to 200; wanted 0 to 1"),
        (np.full((2, 5, 4), -0.5), "symmetric"),
        (np.full((2, 5, 4), np.nan), "nan"),
        (np.zeros((2, 5, 4, 2), np.uint8), r"shape \(2, 5, 4, 2\)"),
        (np.zeros((5, 4), np.uint8), r"shape \(5, 4\)"),
        (np.zeros((3, 5, 4), np.uint8), "3 images where 2"),
        ([np.zeros((5, 4), np.uint8)], "1 images where 2"),
        (None, "NoneType"),
        ("no", "str"),
    ],
)
def test_other_output_is_refused(output: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        to_images(output, 2)


# --- kinds of models -----------------------------------------------------------------------------


def test_callables_with_and_without_seed(tmp_path: Path) -> None:
    by_name = load_sampler(lambda n, *, seed: noise(n, seed))
    by_place = load_sampler(noise)
    first = draw(by_name, 5, tmp_path / "a", seed=3, batch_size=2)
    draw(by_place, 5, tmp_path / "b", seed=3, batch_size=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert first.labels is None
    only_n = load_sampler(lambda n: np.full((n, 2, 2), 7, np.uint8))
    draw(only_n, 2, tmp_path / "c")
    assert ImageSet.open(tmp_path / "c")[1].tolist() == [[[7] * 3] * 2] * 2


def test_import_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_tiny_model.py").write_text(
        "import numpy as np\nSIZE = 3\n"
        "def make(n, seed):\n    return np.full((n, SIZE, SIZE), seed % 256, np.uint8)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    sampler = load_sampler("my_tiny_model:make")
    assert sampler.name == "my_tiny_model:make"
    assert len(draw(sampler, 2, tmp_path / "out").paths) == 2
    for spec, message in [
        ("my_tiny_model:nothing", "nothing"),
        ("no_such_module_anywhere:f", "PYTHONPATH"),
        ("my_tiny_model:SIZE", "wanted a callable"),
    ]:
        with pytest.raises(InputError, match=message):
            load_sampler(spec)


@pytest.mark.parametrize("spec", ["nonsense", "gone.pt", "gone.safetensors", "", "a b/c"])
def test_unknown_specs_name_what_is_possible(spec: str) -> None:
    with pytest.raises(InputError, match=r"diffusers folder|no file"):
        load_sampler(spec)
    with pytest.raises(InputError, match="takes no number"):
        load_sampler(lambda: None)


def test_torchscript_export_and_module_agree(tmp_path: Path) -> None:
    module = Decoder().eval()
    torch.jit.save(torch.jit.script(module), tmp_path / "g.pt")
    batch = torch.export.Dim("batch", min=1, max=64)
    free = torch.export.export(module, (torch.zeros(2, 6),), dynamic_shapes=({0: batch},))
    torch.export.save(free, tmp_path / "free.pt2")
    torch.export.save(torch.export.export(module, (torch.zeros(2, 6),)), tmp_path / "fixed.pt2")
    samplers = [
        load_sampler(tmp_path / "g.pt", latent=6, pixel_range="symmetric"),
        load_sampler(tmp_path / "free.pt2", pixel_range="symmetric"),
        load_sampler(module, latent=6, pixel_range="symmetric"),
    ]
    codes = torch.randn((5, 6), generator=torch.Generator().manual_seed(9))
    expected = np.rint((module(codes).detach().permute(0, 2, 3, 1).numpy() + 1) * 127.5)
    for sampler in samplers:
        images = np.stack(to_images(sampler.draw(5, 9, None), 5, "symmetric")).astype(float)
        assert np.abs(images - expected).max() <= 1
    fixed = load_sampler(tmp_path / "fixed.pt2", pixel_range="symmetric")
    assert len(draw(fixed, 5, tmp_path / "out", batch_size=3).paths) == 5
    with pytest.raises(InputError, match="latent="):
        load_sampler(tmp_path / "g.pt")
    wrong = load_sampler(tmp_path / "g.pt", latent=7)
    with pytest.raises(InputError, match=r"shape \(2, 7\)"):
        wrong.draw(2, 0, None)


def test_pickled_modules_are_refused_without_being_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save(Bomb(), tmp_path / "zip.pt")
    torch.save(Bomb(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save(Decoder().state_dict(), tmp_path / "state.pt")
    for name in ("zip.pt", "old.pt", "state.pt"):
        with pytest.raises(InputError, match=r"refused.*torch\.export"):
            load_sampler(tmp_path / name, latent=6)
    (tmp_path / "bad.pt2").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be opened"):
        load_sampler(tmp_path / "bad.pt2")
    assert not (tmp_path / "exploded").exists()


def test_generators_file_their_images_by_class(tmp_path: Path) -> None:
    config = BetaVAEConfig(size=4, hidden=(8,), latent=2, classes=3)
    BetaVAE(config).save(tmp_path / "g.safetensors")
    sampler = load_sampler(tmp_path / "g.safetensors")
    drawn = draw(sampler, 7, tmp_path / "out", batch_size=4)
    assert drawn.labels == ("0", "1", "2", "0", "1", "2", "0")
    opened = ImageSet.open(tmp_path / "out")
    assert len(opened) == 7
    assert opened.labels == ("0", "0", "0", "1", "1", "2", "2")
    asked = draw(sampler, 2, tmp_path / "asked", labels=["2", 1])
    assert [path.parent.name for path in asked.paths] == ["2", "1"]
    with pytest.raises(InputError, match="'x' is not one of the classes 0 to 2"):
        draw(sampler, 1, tmp_path / "never", labels=["x"])
    assert not (tmp_path / "never").exists()
    BetaVAE(config, ("a", "b", "\u00e9")).save(tmp_path / "accented.safetensors")
    accented = load_sampler(tmp_path / "accented.safetensors")
    assert draw(accented, 1, tmp_path / "accented", labels=["e\u0301"]).labels == ("\u00e9",)


def test_the_demo_sampler(tmp_path: Path) -> None:
    drawn = draw(load_sampler("demo"), 20, tmp_path / "digits", seed=1)
    assert ImageSet.open(tmp_path / "digits")[0].shape == (28, 28, 3)
    assert set(drawn.labels or ()) == set(map(str, range(10)))


@pytest.fixture(scope="module")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DDPM of random weights, saved as diffusers saves any pipeline."""
    diffusers = pytest.importorskip("diffusers")
    folder = tmp_path_factory.mktemp("ddpm")
    network = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
    )
    diffusers.DDPMPipeline(network, diffusers.DDPMScheduler(10)).save_pretrained(folder)
    return folder


def test_diffusers_pipelines(tmp_path: Path, pipeline_folder: Path) -> None:
    sampler = load_sampler(pipeline_folder, inference_steps=2)
    assert not sampler.takes_labels
    draw(sampler, 3, tmp_path / "a", seed=4, batch_size=2)
    draw(sampler, 3, tmp_path / "b", seed=4, batch_size=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert ImageSet.open(tmp_path / "a")[0].shape == (8, 8, 3)
    with pytest.raises(InputError, match="no labels"):
        draw(sampler, 1, tmp_path / "c", labels=["a cat"])


def test_pipelines_are_given_prompts_or_classes(tmp_path: Path) -> None:
    class Prompted:
        """The part of a text-to-image pipeline that a sampler touches."""

        def to(self, device: str) -> Prompted:
            return self

        def set_progress_bar_config(self, **options: object) -> None:
            assert options == {"disable": True}

        def __call__(
            self, prompt: Sequence[str], generator: torch.Generator, output_type: str
        ) -> Any:
            values = [len(text) / 255 for text in prompt]
            images = np.array(values)[:, None, None, None] * np.ones((1, 2, 2, 3))
            return type("Output", (), {"images": images})()

    sampler = load_sampler(Prompted())
    drawn = draw(sampler, 2, tmp_path / "out", labels=["a cat", "two dogs/../.."])
    opened = ImageSet.open(tmp_path / "out")
    assert sorted(int(opened[i][0, 0, 0]) for i in range(2)) == [5, 14]
    assert drawn.paths[0].parent == tmp_path / "out" / "a cat"
    assert drawn.paths[1].parent.parent == tmp_path / "out"
    with pytest.raises(InputError, match="needs a prompt"):
        draw(sampler, 2, tmp_path / "none")


def test_missing_diffusers_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingPackageError, match="pip install 'diffusers"):
        load_sampler("some-lab/some-model")


def test_a_broken_pipeline_folder_is_an_input_error(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    (tmp_path / "model_index.json").write_text('{"_class_name": "NoSuchPipeline"}')
    with pytest.raises(InputError, match="Cannot load the diffusers pipeline"):
        load_sampler(tmp_path)


# --- the folder ----------------------------------------------------------------------------------


def test_an_interrupted_draw_goes_on_to_the_same_files(tmp_path: Path) -> None:
    draw(load_sampler(noise), 10, tmp_path / "whole", seed=5, batch_size=3)
    calls = 0

    def failing(n: int, seed: int) -> NDArray[np.uint8]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return noise(n, seed)

    sampler = load_sampler(failing)
    with pytest.raises(KeyboardInterrupt):
        draw(sampler, 10, tmp_path / "cut", seed=5, batch_size=3)
    assert len(contents(tmp_path / "cut")) == 6
    (tmp_path / "cut" / "000001.png").unlink()
    leftover = tmp_path / "cut" / ".000007.part-0.png"
    leftover.write_bytes(b"half")
    os.utime(leftover, (0, 0))  # of a writer that was killed long ago
    heard = Heard()
    drawn = draw(sampler, 10, tmp_path / "cut", seed=5, batch_size=3, progress=heard)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert drawn.n_kept == 5
    assert heard.stages == [("draw", 10)]
    assert heard.steps == [3, 3, 3, 1]
    assert not list((tmp_path / "cut").glob(".*.part*"))
    done = calls
    assert draw(sampler, 10, tmp_path / "cut", seed=5, batch_size=3).n_kept == 10
    assert calls == done


def test_a_draw_killed_before_its_manifest_can_be_made_again(tmp_path: Path) -> None:
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / ".draw.part-0.json").write_bytes(b"half")
    assert draw(load_sampler(noise), 3, tmp_path / "cut").n_kept == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.png").write_bytes(b"mine")
    with pytest.raises(RunError, match="holds files that no draw wrote"):
        draw(load_sampler(noise), 3, tmp_path / "mine")


def test_a_folder_holds_one_request(tmp_path: Path) -> None:
    sampler = load_sampler(noise)
    out = tmp_path / "out"
    draw(sampler, 4, out, seed=1)
    before = contents(out)
    with pytest.raises(RunError, match=r"different: m, seed.*overwrite=True"):
        draw(sampler, 2, out, seed=2)
    assert contents(out) == before
    draw(sampler, 2, out, seed=2, overwrite=True)
    assert sorted(contents(out)) == ["000000.png", "000001.png"]
    request = json.loads((out / MANIFEST).read_text())
    assert (request["m"], request["seed"]) == (2, 2)
    assert len(ImageSet.open(out)) == 2


def test_a_draw_goes_on_where_it_was_moved_to_with_its_model(tmp_path: Path) -> None:
    here, there, other = (tmp_path / name for name in ("here", "there", "other"))
    train_tiny("beta-vae", write_halves(tmp_path / "halves.npz"), here / "g.safetensors")
    draw(load_sampler(here / "g.safetensors"), 3, here / "drawn", seed=1)
    here.rename(there)
    (there / "drawn" / "000001.png").unlink()
    moved = load_sampler(there / "g.safetensors")
    assert draw(moved, 3, there / "drawn", seed=1).n_kept == 2
    other.mkdir()
    (there / "g.safetensors").rename(other / "renamed.safetensors")
    with pytest.raises(RunError, match="different: sampler"):
        draw(load_sampler(other / "renamed.safetensors"), 3, there / "drawn", seed=1)


def test_files_of_others_are_never_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(RunError, match="no draw wrote"):
            draw(load_sampler(noise), 2, tmp_path, overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(RunError, match="Cannot write"):
        draw(load_sampler(noise), 2, tmp_path / "thesis.txt")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / MANIFEST).write_text("{")
    with pytest.raises(RunError, match="damaged"):
        draw(load_sampler(noise), 2, broken)


def test_bad_arguments(tmp_path: Path) -> None:
    sampler = load_sampler(noise)
    with pytest.raises(InputError, match="m=0"):
        draw(sampler, 0, tmp_path / "x")
    with pytest.raises(InputError, match="takes no labels"):
        draw(sampler, 1, tmp_path / "x", labels=[1])
    with pytest.raises(InputError, match="pixel_range"):
        load_sampler(noise, pixel_range="wide")  # type: ignore[arg-type]
    labelled = load_sampler(lambda n, seed, labels: noise(n, seed))
    with pytest.raises(InputError, match="1 labels for 2 images"):
        draw(labelled, 2, tmp_path / "x", labels=[1])
