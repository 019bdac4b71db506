"""Weight files are read as arrays without torch, and nothing in them is executed."""

from __future__ import annotations

import collections
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gmvaluator.errors import InputError
from gmvaluator.weights import Weights, load_state
from gmvaluator.weights.arrays import load_arrays


def state() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    whole = torch.rand(4, 6, generator=random)
    return {
        "plain": whole,
        "a view": whole[1:3, ::2],
        "turned": whole.T,
        "half": whole.half(),
        "double": whole.double(),
        "count": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "empty": torch.empty(0, 3),
    }


def save_legacy(state: object, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("save", [torch.save, save_legacy])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_a_checkpoint_gives_the_arrays_that_torch_reads(
    save: Any, wrapper: str | None, tmp_path: Path
) -> None:
    wanted = state()
    save({wrapper: wanted} if wrapper else collections.OrderedDict(wanted), tmp_path / "net.pth")
    given = load_arrays(tmp_path / "net.pth")
    assert list(given) == list(wanted)
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(given[name], tensor.numpy())
        assert given[name].dtype == tensor.numpy().dtype


def test_parameters_are_read_and_modules_are_not(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 3)
    torch.save(dict(layer.named_parameters()), tmp_path / "parameters.pth")
    given = load_arrays(tmp_path / "parameters.pth")
    np.testing.assert_array_equal(given["weight"], layer.weight.detach().numpy())
    torch.save(layer, tmp_path / "module.pth")
    with pytest.raises(InputError, match=r"names torch\.nn\.\S+Linear, which is no array"):
        load_arrays(tmp_path / "module.pth")


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file({"plain": state()["plain"]}, tmp_path / "net.safetensors")
    given = load_arrays(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(given["plain"], state()["plain"].numpy())


def test_the_packaged_file_is_read_as_torch_reads_it() -> None:
    path = Weights(offline=True).resolve("efficientnet-lite0").path
    given, wanted = load_arrays(path), load_state(path)
    assert list(given) == list(wanted)
    assert all(np.array_equal(given[name], wanted[name].numpy()) for name in wanted)


class Runs:
    """What a pickle may hold: a call that makes a file."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.made),)


@pytest.mark.parametrize("save", [torch.save, save_legacy])
def test_nothing_in_a_file_is_executed(save: Any, tmp_path: Path) -> None:
    save({"weight": Runs(tmp_path / "made")}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match=r"evil\.pth cannot be read .*mkdir, which is no array"):
        load_arrays(tmp_path / "evil.pth")
    assert not (tmp_path / "made").exists()


class Placed:
    """A tensor over 4 numbers, whose place is what a damaged or malicious file says."""

    def __init__(self, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.place = (offset, shape, strides)

    def __reduce__(self) -> Any:
        rebuild = torch._utils._rebuild_tensor_v2
        storage = torch.zeros(4)._typed_storage()  # type: ignore[no-untyped-call]
        return rebuild, (storage, *self.place, False, collections.OrderedDict())


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(1, (4,), (1,)), (0, (2, 3), (3, 1)), (-1, (2,), (1,)), (0, (2,), (-1,)), (3, (2,), (1,))],
)
def test_a_tensor_beyond_its_storage_is_refused(
    offset: int, shape: tuple[int, ...], strides: tuple[int, ...], tmp_path: Path
) -> None:
    torch.save({"weight": Placed(offset, shape, strides)}, tmp_path / "net.pth")
    with pytest.raises(InputError, match="a tensor of shape"):
        load_arrays(tmp_path / "net.pth")


@pytest.mark.parametrize("save", [torch.save, save_legacy])
@pytest.mark.parametrize("kept", [0, 20, 400])
def test_a_cut_file_is_one_line(save: Any, kept: int, tmp_path: Path) -> None:
    save({"weight": torch.ones(64)}, tmp_path / "net.pth")
    content = (tmp_path / "net.pth").read_bytes()
    (tmp_path / "net.pth").write_bytes(content[:kept])
    with pytest.raises(InputError, match=r"net\.pth cannot be read"):
        load_arrays(tmp_path / "net.pth")


def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save([torch.ones(2)], tmp_path / "list.pth")
    with pytest.raises(InputError, match="holds a list, not a state dict"):
        load_arrays(tmp_path / "list.pth")
    torch.save({"step": 3}, tmp_path / "numbers.pth")
    with pytest.raises(InputError, match="holds 'step', which is no array"):
        load_arrays(tmp_path / "numbers.pth")
