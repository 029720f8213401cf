"""What PyTorch's restricted reader would do for ever or with gigabytes is refused before it reads; nothing else is."""

import collections
import pickle
import struct
import zipfile

import pytest
import torch

from raycifar.storage.tensor_files import check_pickles
from tests.support import pickles
from tests.support.pickles import (
    P61,
    archive,
    called,
    legacy,
    named,
    number,
    over_and_over,
    storage,
    tensor,
    text,
    typed,
)

GOT = b"h\x00"  # the first value of the memo
NESTED = b")" + b"q\x00h\x00\x86" * 40  # a tuple of two, of two, of two: 2^40 values to hash
MANY = b"}(" + b"".join(text(f"{n:05}") + b"N" for n in range(20_000)) + b"u"
SHOWN = b"](NNe" + b"q\x00](h\x00h\x00e" * 40  # a list of two, of two, of two: 2^40 values to show
LONG = text("a" * 2_000_000)


ATTRIBUTES = {  # the calls that set some, and what they are given before those
    "a parameter": ("torch._utils._rebuild_parameter_with_state", tensor((1,), (1,)) + b"\x89N"),
    "a tensor": (
        "torch._tensor._rebuild_from_type_v2",
        named("torch._utils._rebuild_tensor") + named("torch.Tensor") + b"(" + storage(4) + b"K\x00(K\x01t(K\x01tt",
    ),
}


def given(what, state):
    return called(*ATTRIBUTES[what], state)


def filled_afterwards(made, call):
    """Calls with a value in the second place of the memo, made while the dictionary in the first was empty."""
    values = b"".join(text(f"{n:05}") + b"N" for n in range(20_000))
    return b"(}q\x01" + made + b"q\x02h\x01(" + values + b"u](" + call * 200 + b"et"


HOSTILE = {
    **{
        f"the attributes of {what} in a {kind} that grows": (
            filled_afterwards(state, given(what, b"h\x02")),
            "place of a dict",
        )
        for what in ATTRIBUTES
        for kind, state in (("pair", b"h\x01N\x86"), ("second place", b"Nh\x01\x86"), ("list", b"](h\x01e"))
    },
    **{
        f"arguments of {function} that grow": (
            filled_afterwards(b"(" + before + b"h\x01t", named(function) + b"h\x02R"),
            "over and over",
        )
        for function, before in (*ATTRIBUTES.values(), ("collections.Counter", b""))
    },
    **{
        f"a state of {what} that takes 2^40 values to show": (
            b"(" + SHOWN + given(what, b"h\x00NN\x87") + b"t",
            "of a dict",
        )
        for what in ATTRIBUTES
    },
    **{
        f"an attribute of {what} that copies": (given(what, b"}" + text(name) + b"Ns"), "sets what a tensor computes")
        for what in ATTRIBUTES
        for name in ("real", "imag")
    },
    "an attribute that copies, in a counter": (
        given("a parameter", called("collections.Counter", b"}" + text("real") + b"Ns")),
        "sets what a tensor computes",
    ),
    "a size of a tensor's elements": (called("torch.Size", tensor((10**7,), (0,))), "in the place of a tuple"),
    "a size of a storage's elements": (called("torch.Size", storage(4)), "in the place of a tuple"),
    "a size of a list that holds one": (called("torch.Size", b"](" + tensor((4,), (1,)) + b"e"), "place of a tuple"),
    "a long key compared over and over": (
        LONG + b"q\x00" + LONG + b"q\x01}h\x00Ns(" + b"h\x01N" * 1_000 + b"u\x87",
        "over and over",
    ),
    "a set of long texts": (
        LONG + b"q\x00" + LONG + b"q\x01" + called("builtins.set", b"](h\x00" + b"h\x01" * 1_000 + b"e") + b"\x87",
        "over and over",
    ),
    "a long attribute named over and over": (
        LONG + b"q\x00" + called("collections.OrderedDict") + b"}h\x00Nsq\x01b" + b"h\x01b" * 1_000 + b"\x86",
        "over and over",
    ),
    "a storage of two types": (
        b"(" + storage(1, "torch.ComplexDoubleStorage") + storage(16, "torch.ByteStorage") + b"t",
        "two types",
    ),
    "a type that is none of a tensor's": (typed(16, "builtins.complex"), "asks for builtins.complex"),
    "a quantised type": (typed(16, "torch.quint4x2"), "more than plain tensors"),
    "no type": (typed(16, None), "in the place of a global"),
    "a key that hashes 2^40 values": (b"}" + NESTED + b"Ns", "keys that would take"),
    "a set of such": (called("builtins.set", b"](" + NESTED + b"e"), "keys that would take"),
    "keys with one hash": (b"}(" + b"".join(number(n * P61) + b"N" for n in range(1, 20_000)) + b"u", "keys that"),
    "one dictionary counted over and over": (
        over_and_over(MANY, named("collections.Counter") + GOT + b"\x85R", 2_000),
        "over and over",
    ),
    "attributes copied over and over": (
        over_and_over(MANY, called("collections.OrderedDict") + GOT + b"b", 2_000),
        "over and over",
    ),
    "a text encoded over and over": (
        over_and_over(text("a" * 2_000_000), called("_codecs.encode", GOT, text("latin1")), 1_000),
        "over and over",
    ),
    "a size made over and over": (
        over_and_over(b"(" + b"K\x01" * 20_000 + b"t", named("torch.Size") + GOT + b"\x85R", 2_000),
        "over and over",
    ),
    "a code that takes the square of the time": (
        called("_codecs.encode", text("ü" * 100_000), text("punycode")),
        "not written by torch.save",
    ),
    "bytes by their number": (called("builtins.bytearray", number(10**11)), "not written by torch.save"),
    "a tensor by its size": (called("torch.FloatTensor", number(10**11)), "more than plain tensors"),
    "a storage by its size": (called("torch.storage.UntypedStorage", number(10**11)), "more than plain tensors"),
    "a sparse tensor": (called("torch._utils._rebuild_sparse_tensor", b"N", b"N"), "more than plain tensors"),
    "a tensor of one number 10^11 times": (tensor((10**11,), (0,)), "many times the file's bytes"),
    "a hundred of 10^8 times": (b"](" + tensor((10**8,), (0,)) * 100 + b"e", "many times the file's bytes"),
    "a tensor beyond its storage": (tensor((10**10,), (1,)), "beyond its storage"),
    "a tensor before its storage": (tensor((2,), (-1,)), "that no network has"),
    "a tensor of a thousand dimensions": (tensor((1,) * 1_000, (1,) * 1_000), "that no network has"),
    "a storage larger than its record": (storage(10**10), "not as large as its pickle says"),
    "two million instructions": (b"](" + b"N" * 2_000_000 + b"e", "more than 1,500,000 instructions"),
    "6 MB": (text("a" * 6_000_000), r"6,000,\d+ bytes, of 5,000,000|more than 5,000,000 bytes"),
    "a name that takes long to refuse": (named("os." + "s" * 200_000), "asks for os.ssss"),
    "code": (named("os.system") + text("true") + b"\x85R", "asks for os.system"),
    "a state of attributes": (called("collections.OrderedDict") + b"]b", "not written by torch.save"),
}


@pytest.mark.parametrize("write", [archive, legacy])
@pytest.mark.parametrize("what", HOSTILE)
def test_what_would_take_long_or_much_is_refused(tmp_path, what, write):
    content, why = HOSTILE[what]
    write(tmp_path / "w", content)
    with pytest.raises((ValueError, pickle.UnpicklingError), match=why):
        check_pickles(tmp_path / "w")


def test_a_version_that_takes_long_to_show_is_refused(tmp_path):
    """PyTorch says which version it found."""
    magic = pickle.dumps(pickles.MAGIC, protocol=2)
    (tmp_path / "w").write_bytes(magic + pickles.pickled(SHOWN) + 3 * pickles.pickled(b"}"))
    with pytest.raises(pickle.UnpicklingError, match="its version is no number"):
        check_pickles(tmp_path / "w")


def test_a_second_pickle_is_not_hidden_from_the_look(tmp_path):
    archive(tmp_path / "w", b"}", records=[("data/data.pkl", b"\x80\x02}.")])
    with pytest.raises(ValueError, match=r"2 members named data\.pkl"):
        check_pickles(tmp_path / "w")


def test_two_members_of_one_name_are_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive(tmp_path / "w", b"}", records=[("data.pkl", b"\x80\x02}.")])
    with pytest.raises(ValueError, match="two members of one name"):
        check_pickles(tmp_path / "w")


def test_a_directory_that_python_and_pytorch_would_find_at_two_places_is_refused(tmp_path):
    archive(tmp_path / "w", b"}")
    sound = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(sound[:4] + bytes(40) + sound)
    assert len(zipfile.ZipFile(tmp_path / "w").namelist()) == 4
    with pytest.raises(ValueError, match="cut short or damaged"):
        check_pickles(tmp_path / "w")


def test_a_second_end_of_the_directory_is_refused(tmp_path):
    torch.save({}, tmp_path / "w")
    content = bytearray((tmp_path / "w").read_bytes())
    content[-34:-26] = struct.pack("<Q", 7)  # where the longer end begins
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(ValueError, match="cut short or damaged"):
        check_pickles(tmp_path / "w")


def noted(tensor, **more):
    for name, value in {"note": "a note", **more}.items():
        setattr(tensor, name, value)
    return tensor


def few_bits():
    return [torch.arange(6, dtype=torch.uint8).view(kind) for kind in (torch.float4_e2m1fn_x2, torch.float8_e8m0fnu)]


def empty_twice():
    empty = torch.zeros(0)
    return [empty, empty.view(torch.float64)]


def trained():
    """The state of a network that was trained with momentum, moments, a schedule and a scaler."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    adam, sgd = torch.optim.AdamW(network.parameters()), torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    network(torch.zeros(2, 3, 8, 8)).sum().backward()
    for optimizer in (adam, sgd):
        optimizer.step()
    steps = torch.optim.lr_scheduler.MultiStepLR(sgd, [30, 80, 80])
    cycle = torch.optim.lr_scheduler.OneCycleLR(adam, 0.1, total_steps=100)
    parts = (network, adam, sgd, steps, cycle, torch.amp.GradScaler("cpu"))
    return [part.state_dict() for part in parts] + [torch.get_rng_state()]


SOUND = {
    "the state of a training": trained,
    "parameters": lambda: list(torch.nn.Linear(2, 2).parameters()),
    "a parameter with attributes": lambda: {"a": noted(torch.nn.Parameter(torch.zeros(2)))},
    "a tensor with attributes": lambda: {"a": noted(torch.zeros(2))},
    "a parameter with tensors and containers as attributes": lambda: noted(
        torch.nn.Parameter(torch.zeros(2)), scale=torch.ones(3), names=["a", "b"], shapes={"real": torch.Size([2])}
    ),
    "a buffer": lambda: {"a": torch.nn.Buffer(torch.zeros(2))},
    "an empty tensor as two types": empty_twice,
    "many names": lambda: {f"part.{n}.weight": n for n in range(50_000)},
    "plain values": lambda: {"a": [None, True, 1, -(2**70), 0.5, "ü", (1, (2, "b"))], 2: {3.5: {}}, (4, "c"): ()},
    "containers": lambda: [{1, "a"}, collections.Counter("aab"), collections.OrderedDict(a=1), torch.Size([1, 2])],
    "bytes": lambda: [b"\x00\xff", bytearray(b"ab"), bytearray(), 1j, torch.device("cpu"), torch.float16],
    "views": lambda: [torch.arange(10.0)[2:5], torch.zeros(3, 4).t(), torch.zeros(1).expand(64, 3, 3, 3)],
    "few elements": lambda: [torch.zeros(0), torch.zeros(3, 0, 5), torch.tensor(1.0)],
    "types": lambda: {str(kind): torch.zeros(3).to(kind) for kind in TYPES},
    "newer types": lambda: {str(kind): torch.zeros(3).to(kind) for kind in NEWER_TYPES},
    "types of a few bits": few_bits,
}
TYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
]
NEWER_TYPES = [torch.uint16, torch.uint32, torch.uint64, torch.float8_e5m2, torch.float8_e4m3fn]
FILES = [
    (what, as_zip)
    for what in SOUND
    for as_zip in (True, False)
    if as_zip or what not in ("newer types", "types of a few bits")
]


@pytest.mark.parametrize(("what", "as_zip"), FILES)
def test_what_trainings_save_passes(tmp_path, what, as_zip):
    torch.save(SOUND[what](), tmp_path / "w", _use_new_zipfile_serialization=as_zip)
    check_pickles(tmp_path / "w")
    torch.load(tmp_path / "w", weights_only=True)


@pytest.mark.parametrize("packed", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_packed_archive_is_refused_before_it_is_unpacked(tmp_path, packed):
    """Its stream is damaged, which bzip2 would tell as an error of the disk."""
    with zipfile.ZipFile(tmp_path / "state.pt", "w", packed) as archive:
        archive.writestr("archive/data.pkl", bytes(range(200)))  # which hardly shrink
    whole = (tmp_path / "state.pt").read_bytes()
    at = whole.index(b"data.pkl") + len("data.pkl")
    (tmp_path / "state.pt").write_bytes(whole[:at] + bytes(4) + whole[at + 4 :])
    with pytest.raises(ValueError, match=r"compressed, as torch\.save does not"):
        check_pickles(tmp_path / "state.pt")
