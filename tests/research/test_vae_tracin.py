"""VAE-TracIn: gradients, sums over checkpoints, and what it refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from generator_checks import halves, train_tiny, write_halves
from gmvaluator import ImageSet, Valuation
from gmvaluator.baselines.proponents import opponents, proponents
from gmvaluator.baselines.sample_gradients import Batch
from gmvaluator.baselines.vae_gradients import (
    ElboNetwork,
    Loss,
    Objective,
    can_factorise,
    explicit,
    factorised,
)
from gmvaluator.baselines.vae_influence import content_noise
from gmvaluator.baselines.vae_models import (
    OfficialConvVAE,
    VAECheckpoint,
    checkpoints_of,
    module_checkpoints,
    official_checkpoints,
)
from gmvaluator.baselines.vae_tracin import VAETracIn
from gmvaluator.errors import GMValuatorError, InputError, RunError
from gmvaluator.generators.beta_vae import BetaVAE, BetaVAEConfig
from gmvaluator.generators.conv_beta_vae import ConvBetaVAE, ConvBetaVAEConfig

SHAPE = (1, 8, 8)
WRONG: Any = "mse"


class OwnVAE(nn.Module):
    """A user's VAE: mixed layers, no config."""

    def __init__(self, shared: bool = False) -> None:
        super().__init__()
        self.narrow = nn.Linear(64, 6)
        self.again = nn.Linear(6, 6)
        self.to_code = nn.Linear(6, 4)
        self.widen = nn.Linear(2, 64)
        if shared:
            self.again.weight = nn.Parameter(self.again.weight.detach().clone())
        self.calls = 2 if shared else 1

    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = torch.tanh(self.narrow(pixels.flatten(1)))
        for _ in range(self.calls):
            hidden = torch.tanh(self.again(hidden))
        mean, spread = self.to_code(hidden).chunk(2, dim=1)
        return mean, spread

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.widen(codes)
        return logits.reshape(-1, *SHAPE)


def elbo(kind: str = "mlp", loss: Loss = "bce", beta: float = 2.0) -> ElboNetwork:
    """A small network in float64, far from its initial biases of zero."""
    made: dict[str, Callable[[], nn.Module]] = {
        "mlp": lambda: BetaVAE(BetaVAEConfig(size=8, hidden=(12, 10), latent=3)),
        "conditional": lambda: BetaVAE(BetaVAEConfig(size=8, hidden=(12,), latent=3, classes=2)),
        "conv": lambda: ConvBetaVAE(ConvBetaVAEConfig(size=28, width=2, latent=3)),
        "own": OwnVAE,
    }
    torch.manual_seed(0)
    network = ElboNetwork(made[kind](), Objective(loss, beta)).double()
    with torch.no_grad():
        for each in network.parameters():
            each.add_(0.1 * torch.randn_like(each))
    return network


def batch(n: int, side: int = 8, latent: int = 3, seed: int = 0, labels: bool = False) -> Batch:
    drawn = torch.Generator().manual_seed(seed)
    return Batch(
        torch.rand((n, 1, side, side), generator=drawn, dtype=torch.float64),
        torch.arange(n) % 2 if labels else None,
        torch.randn((n, 5, latent), generator=drawn, dtype=torch.float64),
    )


@pytest.mark.parametrize("loss", ["bce", "squared-error", "official"])
@pytest.mark.parametrize("kind", ["mlp", "conditional", "own"])
def test_factors_equal_written_out_gradients(kind: str, loss: Loss) -> None:
    network = elbo(kind, loss)
    latent, labels = 2 if kind == "own" else 3, kind == "conditional"
    left = batch(4, latent=latent, labels=labels)
    right = batch(3, latent=latent, labels=labels, seed=1)
    assert can_factorise(network, left)
    wanted = explicit(network, left).dot(explicit(network, right))
    torch.testing.assert_close(factorised(network, left).dot(factorised(network, right)), wanted)
    torch.testing.assert_close(
        factorised(network, left).squared_norms(), explicit(network, left).squared_norms()
    )


def test_written_out_gradients_are_those_of_autograd() -> None:
    network, images = elbo("conv"), batch(2, side=28)
    losses = network(images.pixels, None, images.noise)
    for i in range(2):
        alone = torch.autograd.grad(losses[i], list(network.parameters()), retain_graph=True)
        flat = torch.cat([part.flatten() for part in alone])
        torch.testing.assert_close(explicit(network, images).flat[i], flat)


def test_networks_that_cannot_be_factorised_are_seen() -> None:
    assert not can_factorise(elbo("conv"), batch(2, side=28))
    shared = ElboNetwork(OwnVAE(shared=True), Objective("bce", 1.0)).double()
    assert not can_factorise(shared, batch(2, latent=2))
    tied = ElboNetwork(OwnVAE(), Objective("bce", 1.0)).double()
    tied.network.register_parameter("scale", nn.Parameter(torch.ones(1)))
    assert not can_factorise(tied, batch(2, latent=2))


def test_dot_product_is_the_first_order_effect_of_a_step() -> None:
    network = elbo()
    x, z = batch(1), batch(1, seed=1)
    influence = float(factorised(network, x).dot(factorised(network, z)))
    errors = []
    for rate in (1e-4, 1e-5):
        stepped = copy.deepcopy(network)
        loss = stepped(x.pixels, None, x.noise).sum()
        gradients = torch.autograd.grad(loss, list(stepped.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(stepped.parameters(), gradients, strict=True):
                parameter.sub_(rate * gradient)
            before = network(z.pixels, None, z.noise)
            gained = float(before - stepped(z.pixels, None, z.noise)) / rate
        errors.append(abs(gained - influence) / abs(influence))
    assert errors[1] < 1e-3
    assert errors[1] < errors[0] / 5


def test_gradients_at_equal_draws_obey_the_laws_of_dot_products() -> None:
    gradients = factorised(elbo(), batch(6))
    products, norms = gradients.dot(gradients), gradients.squared_norms()
    torch.testing.assert_close(products, products.T)
    torch.testing.assert_close(products.diagonal(), norms)
    assert (norms >= 0).all()
    assert (products.abs() <= torch.sqrt(norms[:, None] * norms[None]) + 1e-9).all()


def test_official_loss_is_that_of_the_authors_code() -> None:
    drawn = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 4, 3, 8, 8), generator=drawn)
    pixels = torch.rand((2, 3, 8, 8), generator=drawn)
    mean, spread = torch.randn((2, 5), generator=drawn), torch.randn((2, 5), generator=drawn)
    divergence = 0.5 * (mean**2 + spread.exp() - spread - 1).sum(1)
    squared = ((logits.sigmoid() - pixels[:, None]) ** 2).sum((2, 3, 4)).mean(1)
    losses = {
        name: Objective(name, 2.0)(logits, pixels, mean, spread)
        for name in ("squared-error", "official", "bce")
    }
    torch.testing.assert_close(losses["squared-error"], squared + 2 * divergence)
    # the reconstruction is divided by three channels, KL is not, and all by 12,288
    torch.testing.assert_close(losses["official"], (squared / 3 + 2 * divergence) / 12_288)
    # also where training was by cross entropy
    cross = -(pixels[:, None] * logits.sigmoid().log())
    cross -= (1 - pixels[:, None]) * (1 - logits.sigmoid()).log()
    torch.testing.assert_close(losses["bce"], cross.sum((2, 3, 4)).mean(1) + 2 * divergence)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny conditional β-VAE of `halves` with four snapshots."""
    folder = tmp_path_factory.mktemp("vae")
    data = write_halves(folder / "halves.npz", 40, channels=1)
    file = folder / "vae.safetensors"
    settings = {"optimizer": "sgd", "schedule": "constant", "learning_rate": 1e-3}
    train_tiny(
        "beta-vae", data, file, steps=40, keep=4, conditional=True, settings=settings, seed=1
    )
    return file


def images(rows: slice, n: int = 60) -> tuple[np.ndarray[Any, Any], list[str]]:
    pixels, labels = halves(n, channels=1)
    return pixels[rows, ..., 0], labels[rows]


def image_set(folder: Path, name: str, rows: Any, n: int = 60) -> ImageSet:
    pixels, labels = halves(n, channels=1)
    path = folder / f"{name}.npz"
    np.savez(path, images=pixels[rows, ..., 0], labels=np.asarray(labels)[rows])
    return ImageSet.open(path)


def test_influence_sums_weighted_checkpoints(trained: Path, tmp_path: Path) -> None:
    train, test = image_set(tmp_path, "a", slice(40)), image_set(tmp_path, "b", slice(40, 45))
    checkpoints = checkpoints_of(trained)
    assert [each.step for each in checkpoints] == [10, 20, 30, 40]
    whole = VAETracIn(checkpoints, draws=3).fit(train).influence(test)
    assert whole.shape == (40, 5)
    alone = [VAETracIn([each], draws=3).fit(train).influence(test) for each in checkpoints]
    # alone, a checkpoint stands for all steps before it
    parts = [part / each.step * 10 for part, each in zip(alone, checkpoints, strict=True)]
    np.testing.assert_allclose(whole, sum(parts), rtol=1e-9)
    half = VAETracIn(checkpoints, draws=3, n_trained=80).fit(train).influence(test)
    np.testing.assert_allclose(half, whole / 2, rtol=1e-9)
    backwards = VAETracIn(checkpoints[::-1], draws=3).fit(train).influence(test)
    np.testing.assert_allclose(backwards, whole, rtol=1e-9)


def test_influence_does_not_depend_on_batches_or_places(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = image_set(tmp_path, "a", slice(40)), image_set(tmp_path, "b", slice(40, 50))
    whole = VAETracIn(trained, draws=3).fit(train).influence(test)
    again = VAETracIn(trained, draws=3).fit(train).influence(test)
    np.testing.assert_array_equal(again, whole)
    other = VAETracIn(trained, draws=3, seed=1).fit(train).influence(test)
    assert not np.allclose(other, whole, rtol=1e-3)
    order = np.random.default_rng(0).permutation(40)
    shuffled = VAETracIn(trained, draws=3).fit(image_set(tmp_path, "c", order)).influence(test)
    np.testing.assert_allclose(shuffled, whole[order], rtol=1e-4, atol=1e-6 * abs(whole).max())
    small = VAETracIn(trained, draws=3)
    small._memory = 4 * 40 * 8 * 3  # sums of three test images, gradients of one
    np.testing.assert_allclose(
        small.fit(train).influence(test), whole, rtol=1e-4, atol=1e-6 * abs(whole).max()
    )


def test_equal_images_have_equal_influence(trained: Path, tmp_path: Path) -> None:
    twice = image_set(tmp_path, "a", [0, 1, 2, 0])
    influence = VAETracIn(trained, draws=3).fit(twice).influence(image_set(tmp_path, "b", [5, 6]))
    np.testing.assert_allclose(influence[0], influence[3], rtol=1e-5)
    own = VAETracIn(trained, draws=3).fit(twice).self_influence()
    assert own[0] == pytest.approx(own[3], rel=1e-5)
    assert (own > 0).all()


def test_opposite_draws_are_nearer_to_the_mean(trained: Path, tmp_path: Path) -> None:
    train, test = image_set(tmp_path, "a", slice(20)), image_set(tmp_path, "b", slice(40, 45))
    mean = VAETracIn(trained, draws=400, seed=1).fit(train).influence(test)

    def error(draws: int, *, antithetic: bool) -> float:
        valuer = VAETracIn(trained, draws=draws, antithetic=antithetic).fit(train)
        return float(np.square(valuer.influence(test) - mean).sum())

    assert error(4, antithetic=True) < error(4, antithetic=False)
    # both aim at the same mean
    assert error(400, antithetic=False) < 0.05 * np.square(mean).sum()


def test_codes_come_in_opposite_pairs() -> None:
    image = np.zeros((1, 2, 2), np.uint8)
    five = content_noise(image, (0,), (5, 3), antithetic=True)
    np.testing.assert_array_equal(five[3:], -five[:2])
    apart = content_noise(image, (0,), (5, 3), antithetic=False)
    assert len(np.unique(np.abs(apart), axis=0)) == 5
    np.testing.assert_array_equal(five[:3], apart[:3])


def test_written_out_gradients_give_the_same_influence(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = image_set(tmp_path, "a", slice(20)), image_set(tmp_path, "b", slice(40, 45))
    factors = VAETracIn(trained, draws=3).fit(train)
    wanted, own = factors.influence(test), factors.self_influence()
    monkeypatch.setattr("gmvaluator.baselines.vae_influence.can_factorise", lambda *_: False)
    written = VAETracIn(trained, draws=3).fit(train)
    np.testing.assert_allclose(written.influence(test), wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(written.self_influence(), own, rtol=1e-4)


def test_valuation_holds_the_strongest_proponents(trained: Path, tmp_path: Path) -> None:
    train, test = image_set(tmp_path, "a", slice(40)), image_set(tmp_path, "b", slice(40, 46))
    valuer = VAETracIn(trained, draws=3, k=4).fit(train)
    influence, valuation = valuer.influence(test), valuer.value(test)
    rows = valuation.contributions.rows
    np.testing.assert_array_equal(rows, proponents(influence, 4))
    np.testing.assert_array_equal(rows, np.argsort(-influence, axis=0, kind="stable")[:4].T)
    np.testing.assert_array_equal(
        opponents(influence, 2), np.argsort(influence, axis=0, kind="stable")[:2].T
    )
    assert (np.diff(valuation.contributions.distances, axis=1) >= 0).all()
    assert valuation.info["settings"]["signed"] is True
    dense = VAETracIn(trained, draws=3, k=None).fit(train).value(test)
    np.testing.assert_allclose(dense.values, influence.sum(axis=1), rtol=1e-9)
    dense.save(tmp_path / "run")
    np.testing.assert_allclose(Valuation.load(tmp_path / "run").values, dense.values, rtol=1e-9)


def test_influence_equals_that_of_dattri(trained: Path, tmp_path: Path) -> None:
    from dattri.algorithm.tracin import TracInAttributor
    from dattri.task import AttributionTask
    from torch.utils.data import DataLoader, TensorDataset

    train, test = image_set(tmp_path, "a", slice(20)), image_set(tmp_path, "b", slice(40, 45))
    ours = VAETracIn(trained, draws=3, n_trained=40).fit(train)
    wanted = np.zeros((20, 5))
    for checkpoint in checkpoints_of(trained):
        network = ElboNetwork(checkpoint.load(), Objective("bce", 1.0))

        def loss(weights: Any, data: Any, network: ElboNetwork = network) -> torch.Tensor:
            pixels, label, noise = data
            arguments = (pixels[None], label[None], noise[None])
            found: torch.Tensor = torch.func.functional_call(network, weights, arguments)[0]
            return found

        loaders = [
            DataLoader(
                TensorDataset(*_as_seen(ours, images, (0, checkpoint.step, stream))), batch_size=20
            )
            for stream, images in enumerate((train, test))
        ]
        task = AttributionTask(loss, network, network.state_dict())
        weight = checkpoint.learning_rate * checkpoint.batch_size * 10 / 40
        theirs = TracInAttributor(task, torch.tensor([weight]), normalized_grad=False)
        theirs.projector_kwargs = None
        wanted += theirs.attribute(*loaders).numpy()
    np.testing.assert_allclose(ours.influence(test), wanted, rtol=1e-4, atol=1e-5)


def _as_seen(
    valuer: VAETracIn, images: ImageSet, key: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels, class numbers and codes as the valuer takes them."""
    read = valuer._read(images).pixels
    assert read.labels is not None
    noise = np.stack([content_noise(each, key, (3, 3), antithetic=True) for each in read.bytes])
    pixels = torch.from_numpy(read.bytes.copy()).float() / 255
    return pixels, torch.from_numpy(read.labels), torch.from_numpy(noise)


class _Stopping:
    """A progress that is interrupted after so many images."""

    def __init__(self, after: int) -> None:
        self.left = after

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        def advance(n: int) -> None:
            self.left -= n if name == "influence" else 0
            if self.left < 0:
                raise KeyboardInterrupt

        yield advance


def test_interrupted_valuation_goes_on_at_its_checkpoint(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = image_set(tmp_path, "a", slice(40)), image_set(tmp_path, "b", slice(40, 46))
    wanted = VAETracIn(trained, draws=3, k=40).fit(train).value(test)
    work = tmp_path / "work"
    stopped = VAETracIn(trained, draws=3, k=40, work=work, progress=_Stopping(2 * 40))
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(train).value(test)
    assert len(list(work.glob("*.npz"))) == 1
    loaded: list[int] = []
    checkpoints = [_counted(each, loaded) for each in checkpoints_of(trained)]
    resumed = VAETracIn(checkpoints, draws=3, k=40, work=work).fit(train)
    loaded.clear()
    valuation = resumed.value(test)
    assert loaded == [30, 40]
    np.testing.assert_array_equal(valuation.contributions.rows, wanted.contributions.rows)
    np.testing.assert_array_equal(valuation.contributions.scores, wanted.contributions.scores)
    assert list(work.glob("*")) == []


def _counted(checkpoint: VAECheckpoint, loaded: list[int]) -> VAECheckpoint:
    def load() -> nn.Module:
        loaded.append(checkpoint.step)
        return checkpoint.load()

    return VAECheckpoint(
        checkpoint.name, checkpoint.step, checkpoint.learning_rate, checkpoint.batch_size, load
    )


def test_damaged_partial_sums_are_told(trained: Path, tmp_path: Path) -> None:
    train, test = image_set(tmp_path, "a", slice(40)), image_set(tmp_path, "b", slice(40, 46))
    stopped = VAETracIn(trained, draws=3, k=40, work=tmp_path / "w", progress=_Stopping(50))
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(train).value(test)
    (file,) = (tmp_path / "w").glob("*.npz")
    file.write_bytes(file.read_bytes()[:200])
    again = VAETracIn(trained, draws=3, k=40, work=tmp_path / "w").fit(train)
    with pytest.raises(RunError, match=r"is damaged .* delete it to start again"):
        again.value(test)


def write_official(
    folder: Path, steps: tuple[str, ...], latent: int = 4
) -> dict[str, OfficialConvVAE]:
    """Checkpoints in the authors' layout."""
    folder.mkdir(exist_ok=True)
    networks = {}
    for step in steps:
        torch.manual_seed(len(step))
        networks[step] = OfficialConvVAE(latent)
        torch.save(
            {
                "iter": int(step) if step.isdigit() else 0,
                "win_states": None,
                "model_states": {"net": networks[step].state_dict()},
                "optim_states": {"optim": {"param_groups": [{"lr": 3e-4}]}},
            },
            folder / step,
        )
    return networks


def test_official_checkpoints_are_read_by_number(tmp_path: Path) -> None:
    networks = write_official(tmp_path / "c", ("90", "300", "1000", "last"))
    found = official_checkpoints(tmp_path / "c")
    assert [(each.step, each.learning_rate, each.batch_size) for each in found] == [
        (90, 3e-4, 64),
        (300, 3e-4, 64),
        (1000, 3e-4, 64),
    ]
    loaded = found[1].load().state_dict()
    assert all(torch.equal(loaded[name], v) for name, v in networks["300"].state_dict().items())
    pool = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    valuer = VAETracIn(found[-1:], loss="official", draws=2, k=3).fit(pool)
    assert valuer.influence(pool[:2]).shape == (6, 2)
    assert valuer.value(pool[:2]).info["settings"]["beta"] == 2.0


def test_own_module_and_its_files(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = OwnVAE()
    for step in (20, 100):
        torch.save(network.state_dict(), tmp_path / f"epoch-{step}.pt")
    files = [tmp_path / "epoch-100.pt", tmp_path / "epoch-20.pt"]
    found = module_checkpoints(network, files, learning_rate=0.1, batch_size=8)
    assert [each.step for each in found] == [20, 100]
    train, _ = images(slice(10))
    valuer = VAETracIn(found, draws=2, beta=1.0, image_shape=SHAPE).fit(train)
    assert valuer.influence(train[:2]).shape == (10, 2)
    damaged = tmp_path / "epoch-7.safetensors"
    damaged.write_bytes(b"no tensors")
    (only,) = module_checkpoints(network, [damaged], learning_rate=0.1, batch_size=8)
    with pytest.raises(RunError, match=r"epoch-7.safetensors cannot be read as a checkpoint"):
        only.load()


def _damage(folder: Path, change: Callable[[dict[str, Any]], None]) -> list[VAECheckpoint]:
    write_official(folder, ("100",))
    stored = torch.load(folder / "100", weights_only=True)
    change(stored)
    torch.save(stored, folder / "100")
    return official_checkpoints(folder)


def test_bad_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no checkpoints: files named by"):
        official_checkpoints(tmp_path / "none")

    def narrower(stored: dict[str, Any]) -> None:
        weights = stored["model_states"]["net"]
        weights["encoder.0.weight"] = weights["encoder.0.weight"][:16]

    with pytest.raises(RunError, match=r"a.100 is of another network than OfficialConvVAE"):
        VAETracIn(_damage(tmp_path / "a", narrower))

    def broken(stored: dict[str, Any]) -> None:
        stored["model_states"]["net"]["decoder.0.bias"][0] = float("nan")

    with pytest.raises(RunError, match=r"b.100 holds numbers that are not finite"):
        VAETracIn(_damage(tmp_path / "b", broken))

    def headless(stored: dict[str, Any]) -> None:
        del stored["iter"]

    with pytest.raises(RunError, match=r"c.100 has no 'iter'"):
        _damage(tmp_path / "c", headless)
    write_official(tmp_path / "d", ("100",))
    whole = (tmp_path / "d" / "100").read_bytes()
    (tmp_path / "d" / "100").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"d.100 cannot be read as a checkpoint"):
        official_checkpoints(tmp_path / "d")
    data = write_halves(tmp_path / "h.npz", channels=1)
    train_tiny("beta-vae", data, tmp_path / "plain.safetensors")
    with pytest.raises(RunError, match="train it again with train_generator"):
        checkpoints_of(tmp_path / "plain.safetensors")
    train_tiny("gan", data, tmp_path / "gan.safetensors")
    with pytest.raises(InputError, match="is a gan; VAE-TracIn needs a VAE"):
        checkpoints_of(tmp_path / "gan.safetensors")


class _OnlyDecodes(nn.Module):
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return codes


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda _: VAETracIn([]), "no checkpoint was given"),
        (lambda file: VAETracIn(file, loss=WRONG), "loss='mse'; choose from bce"),
        (lambda file: VAETracIn(file, draws=0), "draws=0 was given"),
        (lambda file: VAETracIn(file, k=-1), "k=-1 was given"),
        (lambda file: VAETracIn(file).value([]), "no images|not fitted"),
        (
            lambda _: module_checkpoints(_OnlyDecodes(), [], learning_rate=1, batch_size=1),
            "_OnlyDecodes has no encode; VAE-TracIn needs a torch module",
        ),
        (
            lambda file: VAETracIn(
                module_checkpoints(OwnVAE(), [file], learning_rate=1, batch_size=1, steps=[1])
            ),
            "is of another network than OwnVAE",
        ),
        (
            lambda file: VAETracIn(file, k=9).fit(halves(8, channels=1)[0][..., 0]).value([]),
            "images of a conditional network have no label",
        ),
        (
            lambda file: VAETracIn(file).fit(halves(8)[0]),
            "has colour images, and the network takes grey ones",
        ),
    ],
)
def test_bad_requests_are_told(trained: Path, ask: Callable[[Path], object], message: str) -> None:
    with pytest.raises(GMValuatorError, match=message):
        ask(trained)
