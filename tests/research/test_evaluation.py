"""Studies on small real sets: their numbers, their files, and going on after an interruption."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure
from numpy.typing import NDArray

from forked import started
from gmvaluator import GMValuator, ImageSet, Valuation
from gmvaluator.certainty.tables import StudyResult, Table
from gmvaluator.cli import cli
from gmvaluator.errors import InputError, PlotWarning, RunError
from gmvaluator.evaluation import reproduction
from gmvaluator.evaluation.metrics import mean_interval
from gmvaluator.evaluation.named import TRIVIAL, NamedValuer
from gmvaluator.evaluation.planted.noise import plant_noised
from gmvaluator.evaluation.setup import Setup
from gmvaluator.evaluation.studies import STUDIES
from gmvaluator.evaluation.studies.calibration import calibration
from gmvaluator.evaluation.studies.efficiency import efficiency, growth
from gmvaluator.evaluation.studies.identical_class import identical_class
from gmvaluator.evaluation.studies.images_needed import images_needed
from gmvaluator.evaluation.studies.index_choice import index_choice
from gmvaluator.evaluation.studies.out_of_distribution import out_of_distribution
from gmvaluator.evaluation.studies.temperature import temperature
from gmvaluator.evaluation.studies.two_subsets import split_in_two, two_subsets
from gmvaluator.evaluation.study import FittedValuer, shares_of, values_of
from gmvaluator.evaluation.subjects.classifier import Classifier, train_classifier
from gmvaluator.evaluation.subjects.recipes import Job, Recipe, trained
from gmvaluator.evaluation.valuers import choose_valuers, judged_by, named_valuer, usable, variant
from gmvaluator.files.pieces import Workspace
from gmvaluator.images.pixels import load_pixels
from gmvaluator.progress import Silent
from gmvaluator.settings import PRESETS

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]


@pytest.fixture
def files(tmp_path: Path, digits: Digits) -> tuple[Path, Path]:
    """Files of 400 labelled training digits and 200 others."""
    images, labels = digits
    for name, rows in (("train", slice(0, 400)), ("real", slice(400, 600))):
        np.savez(tmp_path / f"{name}.npz", images=images[rows], labels=labels[rows])
    return tmp_path / "train.npz", tmp_path / "real.npz"


@pytest.fixture
def setup(files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    """Real digits stand in for generated ones; two cheap valuers; a quick classifier."""
    _quick_classifier(monkeypatch)
    return open_setup(files, tmp_path)


# by its training: most tests train on the same images
QUICK_CLASSIFIERS: dict[tuple[Any, ...], Classifier] = {}


def _quick_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(
        images: NDArray[np.uint8], labels: NDArray[np.object_], **keywords: Any
    ) -> Classifier:
        pixels, classes = keywords["held_out"]
        training = (images.tobytes(), *labels, pixels.tobytes(), *classes, keywords["seed"])
        if training not in QUICK_CLASSIFIERS:
            chosen = {**keywords, "epochs": 2}
            QUICK_CLASSIFIERS[training] = train_classifier(images, labels, **chosen)
        return QUICK_CLASSIFIERS[training]

    monkeypatch.setattr("gmvaluator.evaluation.subjects.subject.train_classifier", quick)


def open_setup(files: tuple[Path, Path], tmp_path: Path, **changes: Any) -> Setup:
    asked: dict[str, Any] = {
        "train": files[0],
        "generated": {"real": files[1]},
        "valuers": ("nearest-pixel", "random"),
        "seeds": 2,
        "m": 40,
        "work": tmp_path / "work",
    }
    return Setup.open(**(asked | changes))


def row(table: Table, *names: str) -> dict[str, Any]:
    """The row of a table whose first cells are these."""
    found = [each for each in rows_of(table) if tuple(each.values())[: len(names)] == names]
    assert len(found) == 1
    return found[0]


def rows_of(table: Table) -> list[dict[str, Any]]:
    """Rows by column."""
    return [dict(zip(table.columns, each, strict=True)) for each in table.rows]


def test_identical_class_counts_as_an_obvious_loop_does(setup: Setup) -> None:
    context = setup.context()
    result = identical_class(context, (3, 10))
    ratios = []
    for seed in range(2):
        sample = context.subjects[0].sample(40, seed)
        train, drawn = load_pixels(context.train, 28) / 255, load_pixels(sample.images, 28) / 255
        labels = sample.images.labels
        assert labels is not None
        own = []
        for image, label in zip(drawn, labels, strict=True):
            nearest = np.argsort(((train - image) ** 2).sum(axis=(1, 2)), kind="stable")[:3]
            own.append(np.mean(context.train_labels[nearest] == label))
        ratios.append(np.mean(own))
    nearest_pixel = row(result.tables[0], "nearest-pixel")["k = 3"]
    assert nearest_pixel.mean == pytest.approx(np.mean(ratios))
    chance = row(result.tables[0], "random")["k = 10"]
    assert abs(chance.mean - 0.1) < 0.06
    assert nearest_pixel.mean > 0.7
    assert "a second reading confirms" in result.notes[0]
    share = 100 * setup.classifiers.accuracy
    assert f"names {share:.2f} % of held-out ones rightly" in result.notes[1]


def test_a_study_goes_on_from_the_pieces_it_finished(
    files: tuple[Path, Path], tmp_path: Path, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = identical_class(setup.context(), (5,))
    pieces = sorted((tmp_path / "work" / "pieces" / "c1").glob("*.json"))
    assert len(pieces) == 4
    pieces[0].unlink()
    pieces[1].write_text(pieces[1].read_text()[:20])
    computed: list[str] = []
    inner = Workspace.piece

    def counting(self: Workspace, kind: str, key: Mapping[str, Any], compute: Any) -> Any:
        def noted() -> Any:
            computed.append(kind)
            return compute()

        return inner(self, kind, key, noted)

    monkeypatch.setattr(Workspace, "piece", counting)
    again = identical_class(open_setup(files, tmp_path).context(), (5,))
    assert computed == ["c1", "c1"]
    assert [table.as_json() for table in again.tables] == [t.as_json() for t in whole.tables]


def test_noised_images_rank_low(setup: Setup) -> None:
    planted = setup.plant(20, 0.8)
    assert planted.noised.sum() == 20
    assert len(planted.images) == 420
    context = setup.context(planted)
    result = out_of_distribution(context, planted, (20,))
    found = row(result.tables[0], "real", "nearest-pixel")
    assert found["AUROC"].mean > 0.75
    assert found["noised without value"].mean == 1
    blind = row(result.tables[0], "real", "random")["AUROC"]
    assert 0.3 < blind.mean < 0.7


def test_planting_is_seeded_and_keeps_labels(setup: Setup, tmp_path: Path) -> None:
    first = setup.plant(5, 0.5)
    other = plant_noised(setup.train, Workspace(tmp_path / "b"), size=28, n_noised=5, sigma=0.5)
    a, b = load_pixels(first.images, 28), load_pixels(other.images, 28)
    np.testing.assert_array_equal(a, b)
    originals = load_pixels(setup.train, 28)
    np.testing.assert_array_equal(a[:400], originals)
    labels = first.images.labels
    assert labels is not None
    rows = np.random.default_rng(0).choice(400, 5, replace=False)
    assert [labels[400 + i] for i in range(5)] == [labels[row] for row in rows]
    assert (a[400:] != originals[rows]).mean() > 0.5
    with pytest.raises(InputError, match="500 noised of 400 images; pass 1 to 400"):
        setup.plant(500, 0.5)


def test_calibration_lowers_what_bad_images_hand_out(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _quick_classifier(monkeypatch)
    valuers = tmp_path / "valuers.toml"
    valuers.write_text('[pixels]\nencoder = "pixels@28"\nrerank = "none"\n')
    setup = open_setup(files, tmp_path, valuers=(), valuers_file=valuers)
    planted = setup.plant(20, 0.8)
    context, mixed = setup.mixed(planted, 0.25, 0.8)
    assert mixed[0].n_noised(40) == 10
    result = calibration(context, mixed, planted, 20)
    found = row(result.tables[0], "real", "pixels")
    assert found["quality, good images"].mean > found["quality, noised images"].mean
    assert found["AUROC on"].mean >= found["AUROC off"].mean
    bins = result.details["pieces"][0]["result"]["qualities_low"]
    assert sum(bins) == pytest.approx(1)
    part = "part of all value to noised training images, off"
    assert 0 < found["part on"].mean < found[part].mean < 1


def test_quality_by_trusted_images_knows_noise_that_training_images_hold(
    files: tuple[Path, Path], tmp_path: Path, digits: Digits
) -> None:
    trusted = ImageSet.open(files[1])
    noise = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    spoilt = np.concatenate([digits[0][:200], noise[:20]])
    drawn = np.concatenate([digits[0][600:610], noise[20:30]])
    own = variant("features", {"rerank": "none", "quality": "realism"})
    qualities = [
        FittedValuer(valuer, ImageSet.open(spoilt), 5).value(ImageSet.open(drawn)).quality
        for valuer in (own, judged_by(own, trusted))
    ]
    gaps = [each[:10].mean() - each[10:].mean() for each in qualities]
    assert gaps[1] > gaps[0]
    assert gaps[1] > 0.2
    assert judged_by(own, trusted).name == "features, trusted"
    assert judged_by(own, trusted).settings != own.settings


def test_temperature_changes_shares_not_contributors(setup: Setup) -> None:
    planted = setup.plant(20, 0.8)
    result = temperature(setup.context(planted), planted, 20, (1.0, 0.1, "auto"))
    rows = {each["τ"]: each for each in rows_of(result.tables[0])}
    name = "contributors that share (perplexity)"
    assert rows["0.1"][name].mean < rows["1.0"][name].mean <= 20
    assert rows["auto"][name].mean == pytest.approx(1 + 19 / 3, rel=1e-3)
    assert rows["1.0"]["Spearman to τ = 1"].mean == pytest.approx(1)
    assert rows["0.1"]["AUROC of noised"].mean == pytest.approx(
        rows["1.0"]["AUROC of noised"].mean, abs=0.05
    )


def test_another_temperature_by_ranks_is_that_of_a_valuation(
    setup: Setup, files: tuple[Path, Path]
) -> None:
    def valued(**changes: Any) -> Valuation:
        small = GMValuator(encoder="pixels@14", rerank="none", quality="none", k=20, **changes)
        return small.fit(files[0]).value(files[1])

    default = valued()
    assert default.record.settings.weighting == "expected-rank"
    for tau in (1.0, 0.1):
        found = values_of(default, shares_of(default, tau))
        np.testing.assert_allclose(found, valued(temperature=tau).values, rtol=1e-6, atol=1e-12)
    ranked = replace(setup, valuers=[variant("ranked", {"encoder": "pixels@14", "rerank": "none"})])
    planted = ranked.plant(20, 0.8)
    result = temperature(ranked.context(planted), planted, 20, (1.0, 0.1))
    rows = {each["τ"]: each for each in rows_of(result.tables[0])}
    assert rows["0.1"]["share of the best"].mean > rows["1.0"]["share of the best"].mean
    assert rows["1.0"]["Spearman to τ = 1"].mean == pytest.approx(1)


def test_values_settle_as_images_are_added(setup: Setup) -> None:
    result = images_needed(setup.context(), (5, 40), 20)
    by_m = {each["m"]: each for each in rows_of(result.tables[0])}
    assert by_m[40]["agreement of values"].mean > by_m[5]["agreement of values"].mean
    assert by_m[40]["images with value"].mean > by_m[5]["images with value"].mean
    with pytest.raises(InputError, match="pass ascending ones from 1 to 40"):
        images_needed(setup.context(), (5, 50), 20)


def test_approximate_search_is_compared_with_exact(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _quick_classifier(monkeypatch)
    setup = open_setup(files, tmp_path, valuers=("nearest-pixel",))
    result = index_choice(setup.context(), ("exact", "pq"), 20)
    exact = row(result.tables[0], "real", "nearest-pixel", "exact")
    approximate = row(result.tables[0], "real", "nearest-pixel", "pq")
    assert exact["contributors in common with exact"].mean == 1
    assert 0.5 < approximate["contributors in common with exact"].mean <= 1
    with pytest.raises(InputError, match="valuer random has no index"):
        index_choice(open_setup(files, tmp_path).context(), ("exact", "pq"), 20)


def test_seconds_are_told_by_stage_and_size(setup: Setup) -> None:
    found = row(efficiency(setup.context(), 10).tables[0], "nearest-pixel")
    assert found["total, s"].mean > 0
    assert found["s a generated image"] == pytest.approx(found["total, s"].mean / 40)
    few: dict[str, Any] = {"seeds": 1, "m": 10, "train": setup.train.select(np.arange(60))}
    context = replace(setup.context(), valuers=[named_valuer("no-rerank")], **few)
    told = row(efficiency(context, 10).tables[0], "no-rerank")
    assert told["paper on its GPU, s"] == 2137
    assert told["× faster"] is None  # of another size
    table = growth(setup.context(), (100, 400), 10).tables[0]
    assert [each[1] for each in table.rows if each[0] == "nearest-pixel"] == [100, 400]
    with pytest.raises(InputError, match="pass ascending ones from 1 to 400"):
        growth(setup.context(), (100, 500), 10)


@pytest.mark.usefixtures("in_this_process")
def test_used_images_are_valued_higher(files: tuple[Path, Path], tmp_path: Path) -> None:
    setup = open_setup(files, tmp_path, valuers=("nearest-pixel",), m=200, seeds=1)
    families = {"beta-vae": Recipe("beta-vae", 200, {"beta": 0.01, "hidden": "64"})}
    result = two_subsets(setup.context(subjects=False), families, 50, 5)
    found = row(result.tables[0], "beta-vae", "nearest-pixel")
    # a generator with hardly any KL term draws what it saw
    assert found["mean value, used"].mean > found["unused"].mean
    assert found["AUROC"].mean > 0.55
    assert set(result.plots) == {"tsne-beta-vae"}


def test_halves_are_disjoint_and_seeded(setup: Setup) -> None:
    split = split_in_two(setup.train, 100, 1)
    assert len(split.images) == 200
    assert split.used.sum() == 100
    assert split.images.ids == split_in_two(setup.train, 100, 1).images.ids
    assert split.images.ids != split_in_two(setup.train, 100, 2).images.ids
    with pytest.raises(InputError, match="two subsets of 201 out of 400"):
        split_in_two(setup.train, 201, 0)


def test_classifier_learns_digits_and_is_saved_with_its_accuracy(
    digits: Digits, tmp_path: Path
) -> None:
    images, labels = digits[0], digits[1].astype(str).astype(object)
    held_out = (images[3000:4000], labels[3000:4000])
    model = train_classifier(images[:3000], labels[:3000], held_out=held_out, epochs=2)
    assert model.config.accuracy > 0.9
    assert model.config.n_held_out == 1000
    model.save(tmp_path / "classifier.safetensors")
    loaded = Classifier.load(tmp_path / "classifier.safetensors")
    assert loaded.config == model.config
    np.testing.assert_array_equal(loaded.name(images[:50]), model.name(images[:50]))
    (tmp_path / "junk.safetensors").write_bytes(b"no")
    with pytest.raises(RunError, match="is no classifier of gmvaluator"):
        Classifier.load(tmp_path / "junk.safetensors")
    with pytest.raises(InputError, match=r"this classifier wants uint8 \(n, 28, 28, 1\)"):
        model.predict(np.zeros((1, 32, 32), np.uint8))


def test_valuers_come_from_names_and_files(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('[sharp]\ntemperature = 0.1\n[pixels]\nencoder = "pixels@8"\n')
    names = [valuer.name for valuer in choose_valuers(("default", "random"), file)]
    assert names == ["default", "random", "sharp", "pixels"]
    assert named_valuer("robust").settings == PRESETS["robust"]
    with pytest.raises(InputError, match="unknown valuer 'best'; choose one of default"):
        named_valuer("best")
    with pytest.raises(InputError, match="valuer default is named twice"):
        choose_valuers(("default", "default"), None)
    file.write_text("[sharp]\nwarmth = 1\n")
    with pytest.raises(InputError, match="valuer sharp has unknown settings warmth"):
        choose_valuers((), file)
    file.write_text("[sharp")
    with pytest.raises(InputError, match="cannot be read as TOML"):
        choose_valuers((), file)


def test_valuers_without_weights_are_left_out_without_naming_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMVALUATOR_OFFLINE", "1")
    monkeypatch.setenv("GMVALUATOR_CACHE", str(tmp_path))
    asked = [variant(name, {"encoder": name}) for name in ("pixels@14", "densenet121")]
    able, notes = usable(asked)
    assert [valuer.name for valuer in able] == ["pixels@14"]
    assert notes == ["densenet121 is left out: its weights are not on this machine."]


def test_tables_show_intervals_and_keep_numbers(tmp_path: Path) -> None:
    cells = ("a|b", mean_interval([0.5, 0.7]), mean_interval([0.25]), None, float("nan"), 3)
    table = Table("what", ("name", "mean", "single", "none", "nan", "count"), (cells,), digits=2)
    assert "| a\\|b | 0.60 ± 1.27 | 0.25 |  |  | 3 |" in table.as_markdown()
    result = StudyResult("study", "A study", (table,), {"m": 3}, notes=("Note.",))
    saved = result.save(tmp_path / "out")
    assert [file.name for file in saved] == ["study.json", "study.md"]
    content = json.loads(saved[0].read_text())
    assert content["tables"][0]["rows"][0][1]["mean"] == pytest.approx(0.6)
    assert content["tables"][0]["rows"][0][4] is None
    assert content["parameters"] == {"m": 3}
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        result.save(tmp_path / "file" / "below")


def test_a_plot_that_fails_loses_nothing_else(tmp_path: Path) -> None:
    def broken(figure: Figure) -> None:
        assert (tmp_path / "study.json").is_file()  # numbers are written before anything is drawn
        raise ValueError("no such colour")

    def drawn(figure: Figure) -> None:
        figure.subplots()

    plots: dict[str, Callable[[Figure], None]] = {"bad": broken, "good": drawn}
    with pytest.warns(PlotWarning, match=r"study-bad\.svg is left out.*no such colour"):
        saved = StudyResult("study", "A study", (), {}, plots=plots).save(tmp_path)
    assert [file.name for file in saved] == ["study.json", "study.md", "study-good.svg"]
    assert all(file.is_file() for file in saved)
    assert saved[1].read_text() == "![A study](study-good.svg)\n"


def test_command_writes_tables_and_plots(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _quick_classifier(monkeypatch)
    arguments = ["evaluate", "c1", files[0], "--generated", f"real={files[1]}", "--quiet"]
    arguments += ["--valuer", "nearest-pixel", "--m", "20", "--k", "5", "--seeds", "2"]
    arguments += ["--work", tmp_path / "work", "--out", tmp_path / "out"]
    done = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0
    assert "nearest-pixel" in done.output
    plot = (tmp_path / "out" / "c1-ratio.svg").read_text()
    assert "identical class ratio" in plot
    assert "![Identical class test (C1)](c1-ratio.svg)" in (tmp_path / "out" / "c1.md").read_text()


def test_the_table_of_studies_holds_every_command() -> None:
    commands = set(cli.commands["evaluate"].commands)  # type: ignore[attr-defined]
    assert commands == {*STUDIES, "all"}
    assert all(callable(study.load()) and study.about for study in STUDIES.values())


@pytest.mark.usefixtures("in_this_process")
def test_every_study_of_the_paper_runs_with_one_call(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _quick_classifier(monkeypatch)
    pixels = {"encoder": "pixels@14", "rerank": "none"}

    def cheap(name: str) -> NamedValuer:
        return named_valuer(name) if name in TRIVIAL else variant(name, pixels)

    small = {
        "MANY": 40,
        "SOME": 40,
        "FEW": 20,
        "HALF": 30,
        "CANDIDATES": 200,
        "NOISED_KS": (20, 50),
    }
    quick = Recipe("beta-vae", 5, {"hidden": "8", "latent": 2})
    changes = {"named_valuer": cheap, "SUBSET_RECIPES": {"beta-vae": quick}, **small}
    for name, value in changes.items():
        monkeypatch.setattr(reproduction, name, value)
    for name in ("encoder_valuers", "distance_valuers"):
        monkeypatch.setattr(reproduction, name, lambda: [variant("pixels", pixels)])
    setup = open_setup(files, tmp_path, valuers=(), train_name="digits", m=20)
    found = {result.name: result for result in reproduction.reproduce(setup)}
    assert set(found) == {f"{study}_digits" for study in (*reproduction.STUDIES, "all")}
    assert all(result.tables[0].rows for result in found.values())
    found["c3_digits"].save(tmp_path / "out")
    times = found["all_digits"]
    assert [row[0] for row in times.tables[0].rows] == [*reproduction.STUDIES, "all"]
    assert times.notes[0].startswith("From an empty working folder")
    *_, again = reproduction.reproduce(setup)
    assert again.notes[0].startswith("Not from the start")
    with pytest.raises(InputError, match="no study c9; choose from c1"):
        list(reproduction.reproduce(setup, ("c9",)))


def test_studies_of_unused_images_draw_in_all_variety(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    own = {"gan": reproduction.RECIPES["gan"], "small": Recipe("gan", 5, {"truncation": 1})}
    setup = open_setup(files, tmp_path, generators=own)
    varied = reproduction._varied(setup).generators
    assert isinstance(varied["gan"], Recipe)
    assert "truncation" not in varied["gan"].settings
    assert varied["small"] == own["small"]


def test_classes_are_also_asked_of_unconditional_generators(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    own = {"gan": reproduction.RECIPES["gan"], "beta-vae": Recipe("beta-vae", 5)}
    setup = open_setup(files, tmp_path, generators=own)
    asked = reproduction._both_kinds(setup).generators
    assert set(asked) == {"gan", "beta-vae", "gan-unconditional"}
    assert asked["gan-unconditional"] == replace(own["gan"], conditional=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to attribute; pass --generator NAME or --generated NAME=SET"),
        (("--generator", "gun"), "gun is neither a generator file nor a family"),
        (("--generated", "real"), "write --generated NAME=SET"),
        (("--generator", "gan", "--seeds", "0"), "seeds=0; pass seeds ≥ 1"),
        (("--generator", "gan", "--n", "900"), "n=900 of 400 training images"),
    ],
)
def test_bad_requests_are_told_at_once(
    files: tuple[Path, Path], tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    whole = ["evaluate", "c1", str(files[0]), "--work", str(tmp_path / "work"), *arguments]
    done = CliRunner().invoke(cli, whole)
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)


def train_two(source: Path, work: Path) -> None:
    recipe = Recipe("beta-vae", 20_000, {"hidden": "8", "latent": 2, "size": 28})
    jobs = [Job("vae", recipe, ImageSet.open(source), seed) for seed in range(2)]
    trained(jobs, Workspace(work), Silent())


def test_trainings_end_with_the_evaluation_that_was_killed(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    killed = started(train_two, files[0], tmp_path / "work")
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("work/*/*.checkpoint")) and time.monotonic() < deadline:
            time.sleep(0.1)
        children = [pid for pid, parent, _ in _processes() if parent == killed.pid]
    finally:
        killed.kill()
        killed.join()
    assert len(children) >= 2
    deadline = time.monotonic() + 20
    while alive := [pid for pid, _, state in _processes() if pid in children and state != "Z"]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.1)


def _processes() -> list[tuple[int, int, str]]:
    """Number, parent's number and state (Z = ended) of every process."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat="], check=True, stdout=subprocess.PIPE, text=True
    )
    lines = [line.split() for line in listed.stdout.splitlines()]
    return [(int(pid), int(parent), state[0]) for pid, parent, state in lines]
