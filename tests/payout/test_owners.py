"""Who owns what: files as people write them, and files that are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gmvaluator import InputError
from gmvaluator.payout.owners import deal, exact_sums, owners_by, read_owners
from gmvaluator.scoring.scores import Contributions
from run_makers import made_valuation

IDS = ("a.png", "b.png", "c.png", "d,1.png")


def written(tmp_path: Path, text: str | bytes) -> Path:
    file = tmp_path / "owners.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_shares_of_several_owners(tmp_path: Path) -> None:
    text = (
        "owner,share,train_id,note\n"
        "Zoë,0.333333,a.png,\nann,0.333333,a.png,\n bob ,0.333333,a.png,\n"
        'ann,,"d,1.png",x\nbob,1,broken.png,\n\n'
    )
    found = read_owners(written(tmp_path, text), IDS, skipped=("broken.png",))
    assert found.owners == ("Zoë", "ann", "bob")
    assert found.rows.tolist() == [0, 0, 0, 3]
    assert found.groups.tolist() == [0, 1, 2, 1]
    np.testing.assert_allclose(found.shares, [1 / 3, 1 / 3, 1 / 3, 1], rtol=1e-15)
    assert found.n_skipped == 1
    assert found.n_images.tolist() == [1, 2, 1, 2]
    assert found.images_of(["bob"]).tolist() == [True, False, False, False]
    assert len(found.origin["sha256"]) == 64


def test_parquet_says_the_same_as_csv(tmp_path: Path) -> None:
    file = tmp_path / "owners.parquet"
    table = {"train_id": ["b.png", "a.png"], "owner": ["x", "y"], "share": [None, 1.0]}
    pq.write_table(pa.table(table), file)
    found = read_owners(file, IDS)
    same = read_owners(written(tmp_path, "train_id,owner\nb.png,x\na.png,y\n"), IDS)
    for name in ("rows", "groups", "shares"):
        np.testing.assert_array_equal(getattr(found, name), getattr(same, name))


@pytest.mark.parametrize(
    ("owners", "message"),
    [
        ([1.5, float("nan")], r"row 1 \(1.5\) has an owner that is neither text nor"),
        ([float("nan"), float("nan")], "row 1, row 2 names no owner"),
        (["x", None], "row 2 names no owner"),
        ([["x"], ["y"]], r"row 1 \(\['x'\]\), row 2 .* neither text nor a whole number"),
        ([True, False], "neither text nor a whole number"),
        ([b"x", b"y"], "neither text nor a whole number"),
    ],
)
def test_parquet_owners_that_are_no_names(
    tmp_path: Path, owners: list[object], message: str
) -> None:
    pq.write_table(
        pa.table({"train_id": ["a.png", "b.png"], "owner": owners}), tmp_path / "o.parquet"
    )
    with pytest.raises(InputError, match=message):
        read_owners(tmp_path / "o.parquet", IDS)


def test_whole_numbers_may_be_owners(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"train_id": ["a.png", "b.png"], "owner": [7, 8]}), tmp_path / "o.parquet"
    )
    assert read_owners(tmp_path / "o.parquet", IDS).owners == ("7", "8")


def test_rows_in_another_order_are_the_same(tmp_path: Path) -> None:
    rows = ["a.png,x,0.7", "a.png,y,0.3", "b.png,y,1", "c.png,z,1"]
    both = []
    for each in (rows, rows[::-1]):
        found = read_owners(written(tmp_path, "\n".join(["train_id,owner,share", *each])), IDS)
        both.append((found.owners, found.rows.tolist(), found.shares.tolist()))
    assert both[0] == both[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has the columns \\(none\\); wanted train_id and owner"),
        ("id,owner\na.png,x\n", "has the columns 'id', 'owner'; wanted train_id and owner"),
        ("train_id,owner\n", "has no rows"),
        ("train_id,owner,owner\n", "names a column twice"),
        ("train_id,owner\na.png,x,y\n", "line 2 has 3 fields; wanted 2"),
        (b"train_id,owner\na.png,\xff\n", "cannot be read as CSV: .*UTF-8"),
        ("train_id,owner\na.png, \n", "line 2 names no owner"),
        ("train_id,owner\na.png,(unassigned)\n", "line 2 has an owner called \\(unassigned\\)"),
        (
            "train_id,owner\na.png,x\nq.png,x\nr,x\ns,x\nt,x\n",
            "line 3 \\('q.png'\\), line 4 \\('r'\\), line 5 \\('s'\\) and 1 more names an image "
            "that is not in the run's training set",
        ),
        ("train_id,owner\na.png,x\na.png,y\n", "line 2, line 3 shares its image with another row"),
        ("train_id,owner,share\na.png,x,.5\na.png,y,\n", "line 3 shares its image with another"),
        ("train_id,owner,share\na.png,x,.5\na.png,x,.5\n", "line 3 repeats line 2"),
        ("train_id,owner,share\na.png,x,1\na.png, x,1\n", "line 3 repeats line 2"),
        (
            "train_id,owner,share\nb.png,x,1\na.png,x,.5\na.png,y,.4\n",
            "sum to 1 within 1e-05, and do not for the image of line 3 \\(0.9\\)",
        ),
        ("train_id,owner,share\na.png,x,0.9\n", "the image of line 2 \\(0.9\\)"),
        ("train_id,owner,share\na.png,x,-1\n", "line 2 \\('-1'\\) has no share above 0"),
        ("train_id,owner,share\na.png,x,0\n", "line 2 \\('0'\\) has no share above 0"),
        ("train_id,owner,share\na.png,x,nan\n", "line 2 \\('nan'\\) has no share above 0"),
        ("train_id,owner,share\na.png,x,1.5\n", "line 2 \\('1.5'\\) has no share above 0"),
        ('train_id,owner,share\na.png,x,"0,5"\n', "line 2 \\('0,5'\\) has no share above 0"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_owners(written(tmp_path, text), IDS)


def test_files_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no file; pass a CSV or Parquet file of owners"):
        read_owners(tmp_path / "none.csv", IDS)
    (tmp_path / "owners.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_owners(tmp_path / "owners.parquet", IDS)


def test_a_column_groups_and_gaps_belong_to_nobody() -> None:
    found = owners_by("licence", ["CC0", None, float("nan"), "", "CC BY", 7], 6)
    assert found.owners == ("7", "CC BY", "CC0")
    assert found.rows.tolist() == [0, 4, 5]
    with pytest.raises(InputError, match="column 'x' is empty for all 2 images"):
        owners_by("x", [None, ""], 2)


def test_unknown_owners_are_named_with_those_known(tmp_path: Path) -> None:
    found = read_owners(written(tmp_path, "train_id,owner\na.png,x\n"), IDS)
    with pytest.raises(InputError, match="owner 'X' is not among the 1 owners \\(x\\)"):
        found.images_of(["X"])


def test_terms_are_the_matrix_product() -> None:
    valuation = made_valuation(n=8, m=20, k=4)
    random = np.random.default_rng(1)
    shares = random.random((8, 3)) * (random.random((8, 3)) > 0.4)
    shares[2] = 0
    total = shares.sum(axis=1, keepdims=True)
    shares = np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)
    found = owners_by("x", ["a", "b", "c", *[None] * 5], 8)
    rows, groups = np.nonzero(shares)
    object.__setattr__(found, "rows", rows)
    object.__setattr__(found, "groups", groups)
    object.__setattr__(found, "shares", shares[rows, groups])
    terms = deal(found, valuation.contributions)
    scores = valuation.score_matrix()
    nobody = 1.0 * (shares.sum(axis=1) == 0)
    expected = np.column_stack([shares, nobody]).T @ scores  # (4, 20)
    cells = np.zeros((4, 20))
    np.add.at(cells, (terms.groups, terms.generated), terms.scores)
    np.testing.assert_allclose(cells, expected, atol=1e-14)
    np.testing.assert_allclose(
        exact_sums(terms.groups, terms.scores, 4), expected.sum(axis=1), rtol=1e-12
    )
    assert set(zip(terms.train.tolist(), terms.generated.tolist(), strict=True)) == set(
        zip(*(part.tolist() for part in np.nonzero(scores)), strict=True)
    )


def test_copies_that_count_once_share_among_their_owners() -> None:
    # images 1, 3 and 5 are copies, and 1 stands for them
    leaders = np.array([0, 1, 2, 1, 4, 1])
    listed = Contributions(
        np.array([[1, 0], [2, 1]]),
        np.zeros((2, 2), np.float32),
        np.array([[0.6, 0.3], [0.4, 0.9]]),
        6,
    )
    ownership = owners_by("x", ["a", "a", None, "b", None, None], 6)

    def dealt(gone: list[int]) -> list[list[float]]:
        left = ownership.without(np.isin(np.arange(6), gone)) if gone else ownership
        terms = deal(left, listed, representatives=leaders)
        cells = np.zeros((2, 3))
        np.add.at(cells, (terms.generated, terms.groups), terms.scores)
        return cells.round(12).tolist()

    # columns: a, b, nobody
    assert dealt([]) == [[0.5, 0.2, 0.2], [0.3, 0.3, 0.7]]
    assert dealt([1]) == [[0.3, 0.3, 0.3], [0, 0.45, 0.85]]
    terms = deal(ownership, listed, representatives=leaders)
    assert set(terms.train[terms.groups == 1].tolist()) == {3}  # b is shown its own copy


def test_negative_scores_cannot_be_paid_by() -> None:
    valuation = made_valuation()
    valuation.contributions.scores[0, 0] = -0.1
    with pytest.raises(InputError, match="scores that are negative or not finite"):
        deal(owners_by("x", ["a"] * 6, 6), valuation.contributions)
