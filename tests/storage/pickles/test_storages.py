"""A tensor stands for no more than its storage holds, whatever its type."""

import pytest
import torch

from raycifar.storage.tensor_files import check_pickles
from tests.support.pickles import archive, called, legacy, named, number, storage, tensor, text, typed

TYPES_OF_TORCH = sorted({str(kind) for kind in vars(torch).values() if isinstance(kind, torch.dtype)})


@pytest.mark.parametrize("name", TYPES_OF_TORCH)
def test_no_type_has_more_bytes_than_it_is_held_to(tmp_path, name):
    """Those of PyTorch's that are no plain numbers are refused."""
    width = getattr(torch, name.removeprefix("torch.")).itemsize
    archive(tmp_path / "w", typed(16 // width + 1, name))
    with pytest.raises(ValueError, match=r"beyond its storage|more than plain tensors"):
        check_pickles(tmp_path / "w")
    archive(tmp_path / "w", typed(201_000_000 // width, name, stride=0))
    with pytest.raises(ValueError, match=r"many times the file's bytes|more than plain tensors"):
        check_pickles(tmp_path / "w")


PLAIN = [name for name in TYPES_OF_TORCH if not name.startswith(("torch.q", "torch.bits"))]


@pytest.mark.filterwarnings("ignore:.*support is experimental")
@pytest.mark.parametrize("name", PLAIN)
def test_a_tensor_of_any_plain_type_that_fills_its_storage_passes(tmp_path, name):
    width = getattr(torch, name.removeprefix("torch.")).itemsize
    archive(tmp_path / "w", typed(16 // width, name))
    check_pickles(tmp_path / "w")
    assert len(torch.load(tmp_path / "w", weights_only=True)) == 16 // width


@pytest.mark.parametrize("name", TYPES_OF_TORCH)
def test_a_type_among_the_other_arguments_changes_no_width(tmp_path, name):
    at = called("torch._utils._rebuild_tensor_v2", storage(4), b"K\x00(K\x05t(K\x01t\x89", named(name))
    archive(tmp_path / "w", at)
    with pytest.raises(ValueError, match="beyond its storage"):
        check_pickles(tmp_path / "w")


def test_a_view_with_the_name_of_another_storage_is_refused(tmp_path):
    """PyTorch would take the other one, which is shorter."""
    other = b"(" + text("storage") + named("torch.ByteStorage") + text("1") + text("cpu") + b"K\x01Nt" + b"Q"
    view = b"(" + text("1") + number(0) + number(8) + b"t"
    legacy(tmp_path / "w", b"(" + other + storage(8, "torch.ByteStorage", more=view) + b"t")
    with pytest.raises(ValueError, match="two lengths"):
        check_pickles(tmp_path / "w")


def test_a_view_beyond_its_storage_is_refused(tmp_path):
    view = b"(" + text("1") + number(0) + number(10**10) + b"t"
    legacy(tmp_path / "w", tensor((10**10,), (1,), more=view))
    with pytest.raises(ValueError, match="a view that reaches beyond"):
        check_pickles(tmp_path / "w")
