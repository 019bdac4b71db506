"""IF4GAN: traces, the pull-back, metrics, and what is refused."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

from forked import in_child, started
from gmvaluator import ImageSet, Valuation
from gmvaluator.baselines.gan_metrics import (
    FrechetDistance,
    GANMetric,
    InceptionScore,
    LogInceptionScore,
    LogLikelihood,
    train_metric_classifier,
)
from gmvaluator.baselines.gan_steps import (
    GANPair,
    GANRecipe,
    Updates,
    flatten,
    make_step,
    mlp_gan,
    official_mnist_gan,
    official_points_gan,
    unflatten,
)
from gmvaluator.baselines.gan_trace import Trace, train_traced
from gmvaluator.baselines.if4gan import (
    IF4GAN,
    cleanse,
    measured_after,
    removal_effects,
    signed_images,
    true_effects,
)
from gmvaluator.errors import GMValuatorError, InputError, RunError
from gmvaluator.generators.training import torch_threads
from gmvaluator.progress import Advance, Progress

WRONG: Any = "both"
SMALL = GANRecipe(
    epochs=4, traced=2, batch_size=10, learning_rate=0.05, critic_rate=0.05, weight_decay=1e-3
)


def points(n: int = 60, seed: int = 0) -> Tensor:
    """Correlated normal points of the specification's 2D task, float64."""
    rng = np.random.default_rng(seed)
    drawn = rng.multivariate_normal([1, 1], [[1, 0.8], [0.8, 1]], n)
    return torch.from_numpy(drawn)


def pair_2d(seed: int = 0, **changes: Any) -> GANPair:
    options = {"latent": 10, "hidden": (32, 32), "bounded": False, "bias": False, **changes}
    return mlp_gan((2,), seed=seed, dtype=torch.float64, **options)


def fixed_codes(n: int = 50, latent: int = 10) -> Tensor:
    drawn = torch.Generator().manual_seed(9)
    return torch.randn((n, latent), generator=drawn, dtype=torch.float64)


@pytest.fixture
def traced(tmp_path: Path) -> tuple[Trace, Tensor]:
    data = points()
    return train_traced(pair_2d(), data, tmp_path / "trace", SMALL), data


def unrolled(trace: Trace, data: Tensor, metric: GANMetric, codes: Tensor) -> np.ndarray[Any, Any]:
    """−∂M/∂w by autograd through the recorded updates, kept as one graph."""
    step = make_step(trace.pair, trace.recipe)
    weights = torch.ones(trace.n, dtype=data.dtype, requires_grad=True)
    critic, maker = trace.at(0)
    for t in range(len(trace)):
        real, drawn = trace.batch(data, t)
        critic, maker = step(critic, maker, weights[trace.rows[t]], real, drawn)
    measured = metric(trace.pair.draw(maker, codes))
    (gradient,) = torch.autograd.grad(measured, weights)
    return -gradient.numpy()


@pytest.mark.parametrize("updates", ["simultaneous", "alternating"])
def test_scores_equal_autograd_through_unrolled_training(updates: Updates, tmp_path: Path) -> None:
    data, metric = points(), LogLikelihood(points(30, seed=1))
    recipe = replace(SMALL, updates=updates)
    trace = train_traced(pair_2d(), data, tmp_path / "t", recipe)
    effects = removal_effects(trace, data, metric, fixed_codes())
    wanted = unrolled(trace, data, metric, fixed_codes())
    np.testing.assert_allclose(effects, wanted, rtol=1e-8, atol=1e-14)
    # finite differences in the weight of one image
    row = int(trace.rows[0, 0])
    step = make_step(trace.pair, recipe)

    def measured(weight: float) -> float:
        critic, maker = trace.at(0)
        for t in range(len(trace)):
            real, drawn = trace.batch(data, t)
            ones = torch.ones(len(real), dtype=data.dtype)
            ones[torch.from_numpy(trace.rows[t] == row)] = weight
            critic, maker = step(critic, maker, ones, real, drawn)
        return float(metric(trace.pair.draw(maker, fixed_codes())))

    slope = (measured(1 + 1e-4) - measured(1 - 1e-4)) / 2e-4
    assert effects[row] == pytest.approx(-slope, abs=1e-9)


def test_sum_of_scores_is_the_slope_in_all_real_terms(traced: tuple[Trace, Tensor]) -> None:
    trace, data = traced
    metric = LogLikelihood(points(30, seed=1))
    step = make_step(trace.pair, trace.recipe)
    scale = torch.ones((), dtype=data.dtype, requires_grad=True)
    critic, maker = trace.at(0)
    for t in range(len(trace)):
        real, drawn = trace.batch(data, t)
        critic, maker = step(critic, maker, scale.expand(len(real)), real, drawn)
    (slope,) = torch.autograd.grad(metric(trace.pair.draw(maker, fixed_codes())), scale)
    effects = removal_effects(trace, data, metric, fixed_codes())
    assert effects.sum() == pytest.approx(-float(slope), rel=1e-8)


def test_estimates_order_images_as_removing_them_does(tmp_path: Path) -> None:
    data, metric = points(500), LogLikelihood(points(200, seed=1))
    recipe = GANRecipe(epochs=10, traced=2, batch_size=50, learning_rate=0.01, critic_rate=0.01)
    trace = train_traced(pair_2d(), data, tmp_path / "t", recipe)
    codes = fixed_codes(200)
    effects = removal_effects(trace, data, metric, codes)
    rows = np.random.default_rng(0).choice(500, 40, replace=False)
    true = true_effects(trace, data, metric, codes, rows)
    assert kendalltau(effects[rows], true).statistic >= 0.95


def test_replay_repeats_the_training_exactly(traced: tuple[Trace, Tensor]) -> None:
    trace, data = traced
    replayed = flatten(*trace.replay(data))
    torch.testing.assert_close(replayed, flatten(*trace.final), rtol=0, atol=0)
    without = flatten(*trace.replay(data, {int(trace.rows[0, 0])}))
    assert not torch.equal(without, replayed)
    metric, codes = LogLikelihood(points(30, seed=1)), fixed_codes()
    assert measured_after(trace, data, metric, codes) == pytest.approx(
        float(metric(trace.pair.draw(trace.final[1], codes)))
    )


def test_snapshots_are_of_before_each_update(traced: tuple[Trace, Tensor]) -> None:
    trace, data = traced
    step = make_step(trace.pair, trace.recipe)
    assert (len(trace), trace.weights.shape[0]) == (12, 13)
    for t in range(len(trace)):
        real, codes = trace.batch(data, t)
        ones = torch.ones(len(real), dtype=data.dtype)
        after = flatten(*step(*trace.at(t), ones, real, codes))
        torch.testing.assert_close(after, flatten(*trace.at(t + 1)), rtol=0, atol=0)


def test_image_that_no_recorded_update_saw_scores_zero(tmp_path: Path) -> None:
    data = points(64)
    recipe = replace(SMALL, batch_size=60, epochs=2, traced=1, updates="alternating")
    trace = train_traced(pair_2d(), data, tmp_path / "t", recipe)
    effects = removal_effects(trace, data, LogLikelihood(points(20, 1)), fixed_codes())
    unseen = np.setdiff1d(np.arange(64), trace.rows)
    assert len(unseen) >= 4
    assert (effects[unseen] == 0).all()
    assert (effects[trace.rows[0]] != 0).all()


def test_a_critic_that_does_not_learn_gives_zero(tmp_path: Path) -> None:
    data = points()
    trace = train_traced(pair_2d(), data, tmp_path / "t", replace(SMALL, critic_rate=0.0))
    assert (removal_effects(trace, data, LogLikelihood(points(20, 1)), fixed_codes()) == 0).all()


def test_removal_keeps_the_denominator() -> None:
    pair, data, codes = pair_2d(), points(10), fixed_codes(10)
    recipe = replace(SMALL, weight_decay=0.0, critic_rate=1.0, learning_rate=0.0)
    step = make_step(pair, recipe)
    critic, maker = pair.start()
    ones = torch.ones(10, dtype=torch.float64)
    with_all = flatten(step(critic, maker, ones, data, codes)[0])
    lacking = ones.clone()
    lacking[3] = 0
    without = flatten(step(critic, maker, lacking, data, codes)[0])
    term = torch.func.grad(
        lambda weights: torch.nn.functional.softplus(-pair.judge(weights, data[3:4])).sum() / 10
    )(critic)
    torch.testing.assert_close(without - with_all, flatten(term))


def test_weights_in_one_vector_come_back() -> None:
    critic, maker = pair_2d().start()
    again = unflatten(flatten(critic, maker), critic, maker)
    for before, after in zip((critic, maker), again, strict=True):
        assert list(before) == list(after)
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_official_networks_have_the_published_sizes() -> None:
    pair = official_mnist_gan()
    sizes = [sum(p.numel() for p in net.parameters()) for net in (pair.critic, pair.generator)]
    assert sizes == [46_273, 62_145]
    codes = torch.zeros((2, 32))
    assert pair.draw(pair.start()[1], codes).shape == (2, 1, 28, 28)
    assert pair.judge(pair.start()[0], torch.zeros((2, 1, 28, 28))).shape == (2,)
    flat = official_points_gan()
    sizes = [sum(p.numel() for p in net.parameters()) for net in (flat.critic, flat.generator)]
    assert sizes == [2 * 64 + 64 * 64 + 64, 10 * 32 + 32 * 32 + 32 * 2]
    assert flat.draw(flat.start()[1], torch.zeros((3, 10), dtype=torch.float64)).shape == (3, 2)


def test_log_likelihood_is_that_of_a_kernel_density() -> None:
    from scipy.stats import multivariate_normal

    held_out, drawn = points(20, seed=1), points(30, seed=2)
    density = np.mean(
        [multivariate_normal(mean=centre).pdf(held_out.numpy()) for centre in drawn.numpy()], axis=0
    )
    found = float(LogLikelihood(held_out)(drawn))
    assert found == pytest.approx(np.log(density).mean(), rel=1e-10)


def test_inception_score_of_known_answers() -> None:
    sure = torch.eye(4, dtype=torch.float64) * 1e3
    assert float(InceptionScore(lambda x: x)(sure)) == pytest.approx(4)
    assert float(LogInceptionScore(lambda x: x)(sure)) == pytest.approx(np.log(4))
    assert float(InceptionScore(lambda x: x)(sure[:1].expand(4, 4))) == pytest.approx(1)


def test_frechet_distance_of_gaussians() -> None:
    from scipy.linalg import sqrtm

    left, right = points(400, seed=1), 0.5 * points(300, seed=2) + 2
    metric = FrechetDistance(lambda x: x, left)
    a, b = np.cov(left.numpy().T), np.cov(right.numpy().T)
    apart = left.mean(0).numpy() - right.mean(0).numpy()
    wanted = apart @ apart + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert float(metric(right)) == pytest.approx(wanted, rel=1e-8)
    assert float(metric(left)) == pytest.approx(0, abs=1e-8)
    moved = right.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(metric(moved), moved)
    higher, lower = right.clone(), right.clone()
    higher[0, 0] += 1e-5
    lower[0, 0] -= 1e-5
    slope = float(metric(higher) - metric(lower)) / 2e-5
    assert float(gradient[0, 0]) == pytest.approx(slope, rel=1e-5)


def test_signs_make_helpful_images_positive(traced: tuple[Trace, Tensor]) -> None:
    assert [FrechetDistance.helpful, InceptionScore.helpful, LogLikelihood.helpful] == [1, -1, -1]
    trace, data = traced
    metric, codes = LogLikelihood(points(200, seed=1)), fixed_codes()
    values = metric.helpful * removal_effects(trace, data, metric, codes)
    best, worst = values.argmax(), values.argmin()
    now = measured_after(trace, data, metric, codes)
    # likelihood falls without the most helpful point, and rises without the least
    assert measured_after(trace, data, metric, codes, {int(best)}) < now
    assert measured_after(trace, data, metric, codes, {int(worst)}) > now


@pytest.fixture
def digit_gan(tmp_path: Path, digits: Any) -> tuple[Trace, ImageSet, GANMetric]:
    """A tiny traced GAN on 60 digits of 14 pixels, and a metric from 100 others."""
    images, labels = digits
    np.savez(tmp_path / "train.npz", images=images[:60, ::2, ::2], labels=labels[:60])
    train = ImageSet.open(tmp_path / "train.npz")
    pair = mlp_gan((1, 14, 14), latent=4, hidden=(16,))
    trace = train_traced(pair, signed_images(train), tmp_path / "gan", SMALL)
    held_out = torch.from_numpy(images[60:160]).float()[:, None, ::2, ::2] / 127.5 - 1
    features = nn.Sequential(nn.Flatten(), nn.Linear(196, 5)).requires_grad_(False)
    return trace, train, FrechetDistance(features, held_out)


def test_agreement_is_undefined_where_removing_changes_nothing(
    digit_gan: tuple[Trace, ImageSet, GANMetric], tmp_path: Path
) -> None:
    _, train, metric = digit_gan
    still = replace(SMALL, critic_rate=0.0, learning_rate=0.0)
    pair = mlp_gan((1, 14, 14), latent=4, hidden=(16,))
    trace = train_traced(pair, signed_images(train), tmp_path / "still", still)
    valuation = IF4GAN(trace, metric, validation=20, checked=4).fit(train).value()
    assert valuation.info["agreement"] == {"removals": 4, "kendall_tau": None}


def test_valuer_gives_a_valuation_with_its_agreement(
    digit_gan: tuple[Trace, ImageSet, GANMetric], tmp_path: Path
) -> None:
    trace, train, metric = digit_gan
    valuer = IF4GAN(trace, metric, validation=50, checked=10).fit(train)
    valuation = valuer.value()
    effects = removal_effects(trace, signed_images(train), metric, valuer.codes)
    np.testing.assert_allclose(valuation.values, effects, rtol=1e-12)
    told = valuation.info["agreement"]
    assert told["removals"] == 10
    assert told["kendall_tau"] == pytest.approx(valuer.agreement(effects).kendall_tau)
    assert told["kendall_tau"] > 0.8
    valuation.save(tmp_path / "run")
    loaded = Valuation.load(tmp_path / "run")
    np.testing.assert_allclose(loaded.values, valuation.values, rtol=1e-12)
    assert loaded.info["settings"]["metric"] == "fid"


def test_metric_classifier_learns_digits(digits: Any) -> None:
    images, labels = digits
    order = np.random.default_rng(0).permutation(len(images))
    pixels = torch.from_numpy(images[order]).float()[:, None] / 127.5 - 1
    numbers = torch.from_numpy(labels[order].astype(np.int64))
    model = train_metric_classifier(pixels[:3000], numbers[:3000], epochs=6)
    right = (model(pixels[3000:4000]).argmax(1) == numbers[3000:4000]).float().mean()
    assert right > 0.8
    assert model.features(pixels[:2]).shape == (2, 128)


def test_leaving_out_harmful_images_helps(tmp_path: Path) -> None:
    data = points(200)
    data[:40] = 8 + 0.1 * points(40, seed=3)  # far from all that is held out
    metric, codes = LogLikelihood(points(100, seed=1)), fixed_codes()
    recipe = GANRecipe(epochs=20, traced=4, batch_size=20, learning_rate=0.02, critic_rate=0.02)
    trace = train_traced(pair_2d(), data, tmp_path / "t", recipe)
    values = metric.helpful * removal_effects(trace, data, metric, codes)
    now = measured_after(trace, data, metric, codes)
    (cleansed,) = cleanse(trace, data, metric, codes, values, [0.2])
    assert cleansed.least > now
    assert cleansed.least > cleansed.random
    with pytest.raises(InputError, match=r"a share of 1\.5 to leave out"):
        cleanse(trace, data, metric, codes, values, [1.5])


class Slow:
    """Every update of a training takes 20 ms more."""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        yield lambda _: time.sleep(0.02)


def train_long(folder: Path, progress: Progress | None = None) -> Trace:
    recipe = replace(SMALL, epochs=40, traced=20)
    with torch_threads(1):
        return train_traced(pair_2d(), points(), folder, recipe, progress=progress)


def test_killed_training_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    killed = started(train_long, tmp_path / "killed", Slow())
    state = tmp_path / "killed" / "state.npz"
    deadline = time.monotonic() + 60
    while not state.is_file() and killed.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.kill()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "trace.json").exists()
    with pytest.raises(RunError, match="holds no finished trace"):
        Trace.open(tmp_path / "killed", pair_2d())
    resumed, whole = train_long(tmp_path / "killed"), train_long(tmp_path / "whole")
    np.testing.assert_array_equal(resumed.weights, whole.weights)
    np.testing.assert_array_equal(resumed.codes, whole.codes)
    assert sorted(file.name for file in (tmp_path / "killed").iterdir()) == [
        "codes.npy",
        "rows.npy",
        "trace.json",
        "weights.npy",
    ]


def test_traces_that_do_not_fit_are_named(traced: tuple[Trace, Tensor], tmp_path: Path) -> None:
    trace, data = traced
    metric, codes = LogLikelihood(points(20, 1)), fixed_codes()
    with pytest.raises(InputError, match="recorded with these images in another order"):
        removal_effects(trace, data.flip(0), metric, codes)
    with pytest.raises(InputError, match="recorded with 60 other images than these 59"):
        removal_effects(trace, data[1:], metric, codes)
    with pytest.raises(RunError, match="is of other networks"):
        Trace.open(trace.folder, pair_2d(hidden=(16,)))
    with pytest.raises(RunError, match=r"holds another trace \(it differs in recipe\)"):
        train_traced(pair_2d(), data, trace.folder, replace(SMALL, seed=1))
    with pytest.raises(RunError, match=r"holds no finished trace .* train_traced"):
        Trace.open(tmp_path / "nowhere", pair_2d())
    again = train_traced(pair_2d(), data, trace.folder, SMALL)
    np.testing.assert_array_equal(again.weights, trace.weights)
    (trace.folder / "weights.npy").write_bytes(b"broken")
    with pytest.raises(RunError, match=r"is damaged .* record it again"):
        Trace.open(trace.folder, pair_2d())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_trace_that_the_disk_has_no_room_for_is_refused(small_disk: Path) -> None:
    def train() -> str:
        with pytest.raises(RunError) as raised:
            train_traced(pair_2d(), points(), small_disk / "trace", SMALL)
        return str(raised.value)

    # in a child, since writing to a file without space kills the process
    message = in_child(train)
    assert "MB of disk space in" in message
    assert "choose another folder" in message
    assert not list(small_disk.rglob("weights.npy"))


def _with(layer: nn.Module) -> Callable[[], object]:
    return lambda: GANPair(nn.Sequential(nn.Linear(4, 2)), nn.Sequential(nn.Linear(2, 2), layer), 4)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (_with(nn.BatchNorm1d(2)), r"the critic has BatchNorm1d \(1\), which couples the images"),
        (_with(nn.Dropout()), "the critic has Dropout .* leave it out"),
        (lambda: GANRecipe(epochs=2, traced=3), "traced=3 of 2 epochs"),
        (lambda: GANRecipe(updates=WRONG), "updates='both'; choose from"),
        (lambda: GANRecipe(learning_rate=-1), "learning_rate=-1; pass a number ≥ 0"),
        (
            lambda: train_traced(pair_2d(), points(5), "unused", SMALL),
            "5 training images for batches of 10",
        ),
    ],
)
def test_bad_requests_are_told(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(GMValuatorError, match=message):
        ask()


def test_training_that_diverges_is_told(tmp_path: Path) -> None:
    wild = replace(SMALL, learning_rate=1e200, critic_rate=1e200)
    with pytest.raises(RunError, match=r"not finite after update .* smaller learning rates"):
        train_traced(pair_2d(), points(), tmp_path / "t", wild)
    assert not (tmp_path / "t" / "trace.json").exists()
