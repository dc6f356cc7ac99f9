from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from secateur.errors import ModelError
from secateur.models import (
    create_model,
    default_input_size,
    default_num_classes,
    known_models,
    load_state,
    load_weights,
    num_classes_of,
)
from tests.flows.tiny import TinyNetwork

NUM_PARAMS = {
    "resnet20_cifar": 272_474,
    "resnet32_cifar": 466_906,
    "resnet44_cifar": 661_338,
    "resnet56_cifar": 855_770,
    "resnet110_cifar": 1_730_714,
    "vgg11_cifar": 9_225_610,  # of Distiller's
    "vgg11_bn_cifar": 9_231_114,
    "vgg16_cifar": 14_719_818,
    "vgg16_bn_cifar": 14_728_266,
}


@pytest.mark.parametrize("name", NUM_PARAMS)
def test_known_models(name: str) -> None:
    assert set(known_models()) == set(NUM_PARAMS)
    model = create_model(name, 10)
    assert sum(parameter.numel() for parameter in model.parameters()) == NUM_PARAMS[name]
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert create_model(name, 7).eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "size"),
    [("torchvision:squeezenet1_1", 64), ("torchvision:googlenet", 64), ("timm:mobilenetv3_small_050", 64)],
)
def test_models_of_zoos_have_the_head_that_is_asked_for(name: str, size: int) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm", reason="timm is an extra")
    model = create_model(name, 7)
    assert model(torch.zeros(2, 3, size, size)).shape == (2, 7)
    assert (default_num_classes(name), default_input_size(name)) == (1000, 224)


@pytest.mark.parametrize("name", ["torchvision:squeezenet1_1", "torchvision:googlenet", "resnet20_cifar"])
@pytest.mark.parametrize("num_classes", [3, 10, 1000])
def test_weights_tell_their_number_of_classes(tmp_path: Path, name: str, num_classes: int) -> None:
    path = write(tmp_path / "w.safetensors", create_model(name, num_classes).state_dict())
    assert num_classes_of(name, path) == num_classes


def test_weights_may_hold_heads_that_only_served_training(tmp_path: Path) -> None:
    state = create_model("torchvision:googlenet", 3).state_dict()
    path = write(tmp_path / "w.safetensors", {**state, "aux1.fc2.weight": torch.zeros(3, 1024)})
    load_weights(create_model("torchvision:googlenet", 3), path)


def test_a_model_of_the_users_own() -> None:
    assert isinstance(create_model("python:tests.flows.tiny:network", 3), TinyNetwork)


def no_model(num_classes: int) -> str:
    return f"a model of {num_classes} classes"


def broken(num_classes: int) -> nn.Module:
    raise KeyError("depth")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("resnet20", "unknown model 'resnet20'. Did you mean 'resnet20_cifar'?"),
        ("torchvision:resnet51", "unknown model 'torchvision:resnet51'. Did you mean 'resnet50'?"),
        ("keras:resnet50", "unknown model 'keras:resnet50'."),
        ("vgg", "unknown model 'vgg'."),
        (
            "python:tests.models.test_models:no_model",
            "expected the factory to return a torch.nn.Module, got <class 'str'>",
        ),
        ("python:tests.models.test_models:broken", "factory(10) failed: KeyError: 'depth'."),
        ("python:tests.models.test_models:IMAGE", "has no 'IMAGE'."),
        ("python:tests.models.test_models:VALUE", "failed: TypeError: 'int' object is not callable."),
        (
            "python:tests.nowhere:network",
            "No module named 'tests.nowhere'. Is 'tests.nowhere' installed, or in the cur",
        ),
    ],
)
def test_what_is_no_model_is_refused(name: str, problem: str) -> None:
    with pytest.raises(ModelError, match=re.escape(problem)):
        create_model(name, 10)


VALUE = 3

# --- weights


@pytest.fixture
def state() -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in TinyNetwork(3).state_dict().items()}


def write(path: Path, state: dict[str, Tensor]) -> Path:
    match path.suffix:
        case ".safetensors":
            save_file(state, path)
        case ".npz":
            np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})
        case _:
            torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pt", ".pth"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_of_every_kind(tmp_path: Path, state: dict[str, Tensor], suffix: str, prefix: str) -> None:
    path = write(tmp_path / f"w{suffix}", {prefix + name: tensor for name, tensor in state.items()})
    model = TinyNetwork(3)
    load_weights(model, path)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_training_checkpoint_holds_a_state_dict(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "checkpoint.tar")
    assert load_state(tmp_path / "checkpoint.tar").keys() == state.keys()


def test_counters_of_batches_may_be_absent(tmp_path: Path, state: dict[str, Tensor]) -> None:
    without = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    load_weights(TinyNetwork(3), write(tmp_path / "w.npz", without))


class Evil:
    """What no file of weights may run when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path("was-here"), "pickles run code")


def test_code_in_a_pickle_is_refused_and_not_run(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({**state, "evil": Evil()}, "w.pt")
    with pytest.raises(ModelError, match=r"weights w.pt: holds more than tensors; save model.state_dict\(\) alone"):
        load_state(Path("w.pt"))
    np.savez("w.npz", evil=np.array([Evil()], dtype=object))
    with pytest.raises(ModelError, match=r"weights w.npz: cannot be read as .npz: Object arrays cannot be loaded"):
        load_state(Path("w.npz"))
    assert not Path("was-here").exists()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("w.safetensors", b"damaged", "cannot be read as .safetensors: "),
        ("w.safetensors", b"", "cannot be read as .safetensors: "),
        ("w.npz", b"damaged", "cannot be read as .npz: "),
        ("w.npz", b"PK\x03\x04damaged", "cannot be read as .npz: "),
        ("w.npz", b"", "cannot be read as .npz: "),
        ("w.pt", b"", "cannot be read as .pt: "),
        ("w.bin", b"damaged", "cannot be read as .bin: expected .safetensors, .npz, .pt or .pth, got '.bin'."),
        ("w", b"damaged", "cannot be read as weights: expected .safetensors, .npz, .pt or .pth, got ''."),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=re.escape(f"{name}: {problem}")):
        load_state(tmp_path / name)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pt"])
@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_a_file_cut_short_is_refused(tmp_path: Path, state: dict[str, Tensor], suffix: str, part: float) -> None:
    path = write(tmp_path / f"w{suffix}", state)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(ModelError, match="cannot be read as"):
        load_state(path)


@pytest.mark.parametrize(
    "content", [[1], {}, {"a": 1}, {1: torch.zeros(1)}, {"state_dict": 3}, torch.zeros(1)], ids=repr
)
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="expected a state_dict, that is a mapping of names to tensors"):
        load_state(tmp_path / "w.pt")


def test_arrays_that_are_no_tensors_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", a=np.array(["text"]))
    with pytest.raises(ModelError, match=r"w.npz: cannot be read as .npz: can't convert"):
        load_state(tmp_path / "w.npz")
    np.save(tmp_path / "w.npy", np.zeros(3))
    (tmp_path / "w.npy").rename(tmp_path / "w.npz")
    with pytest.raises(ModelError, match=r"w.npz: cannot be read as .npz"):
        load_state(tmp_path / "w.npz")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for suffix in (".safetensors", ".npz", ".pt"):
        with pytest.raises(ModelError, match=f"w{suffix}: there is no such file"):
            load_state(tmp_path / f"w{suffix}")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ModelError, match=r"folder.npz: cannot be read as .npz: .*Is a directory"):
        load_state(tmp_path / "folder.npz")


def test_weights_that_do_not_fit_are_refused_with_what_does_not(tmp_path: Path, state: dict[str, Tensor]) -> None:
    model = TinyNetwork(3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["fc.weight"] = torch.zeros(10, 8)
    state["conv1.weigth"] = state.pop("conv1.weight")
    with pytest.raises(ModelError) as caught:
        load_weights(model, write(tmp_path / "w.npz", state))
    assert str(caught.value) == (
        f"weights {tmp_path / 'w.npz'} do not fit the model: 'conv1.weight' is missing; 'fc.weight' has shape (10, 8), "
        "expected (3, 8); 'conv1.weigth' is not in the model. Did you mean 'conv1.weight'?."
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_of_many_misfits_three_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "w.npz", create_model("resnet20_cifar", 10).state_dict())
    with pytest.raises(ModelError, match=r"do not fit the model: .*; and \d+ more\.$"):
        load_weights(TinyNetwork(3), path)
