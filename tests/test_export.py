"""What `analyze.py --export` writes, and when it writes nothing."""

import importlib.util
from dataclasses import replace

import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

import raycifar.export
from raycifar import load_model
from raycifar.commands import analyze
from raycifar.config.data import Data
from raycifar.config.datasets import CIFAR10
from raycifar.config.settings import Model
from raycifar.export import ExportError, export_model, largest_difference, model_card
from raycifar.networks.registry import make_network
from raycifar.trained_model import TrainedModel
from tests.support.sweep_folders import trial_spec, write_failure, write_sweep

FILES = ["README.md", "model.onnx", "model.safetensors"]


@pytest.fixture(scope="module")
def exported(real_sweep):
    return export_model(real_sweep)[0].parent


@pytest.fixture
def without(monkeypatch):
    """Makes a package look as if it were not installed."""
    find = importlib.util.find_spec

    def hide(package):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))

    return hide


@pytest.mark.assets
def test_the_weights_are_those_that_were_tested(real_sweep, exported):
    assert sorted(path.name for path in exported.iterdir()) == FILES
    model = load_model(real_sweep)
    assert exported == real_sweep / "analysis/export" / model.trial.name
    tested = load_file(real_sweep / model.trial.name / "best.safetensors")
    torch.testing.assert_close(load_file(exported / "model.safetensors"), tested, rtol=0, atol=0)


@pytest.mark.assets
@pytest.mark.parametrize("batch", [1, 5])
def test_onnx_predicts_what_pytorch_does_at_any_batch_size(real_sweep, exported, batch, test_images):
    images = test_images.images[:batch]
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    predicted = load_model(real_sweep).predict(images)
    torch.testing.assert_close(torch.from_numpy(logits).softmax(1), predicted, atol=1e-4, rtol=0)


@pytest.mark.assets
def test_the_card_states_the_numbers_with_their_n_and_what_they_are_worth(real_sweep, exported):
    card, summary = (exported / "README.md").read_text(), load_model(real_sweep).summary
    assert f"| test accuracy, 40 images | {100 * summary.test_accuracy:.2f} % |" in card
    assert "(n = 1: no spread)" in card
    assert "chosen by its validation accuracy among 2 trials" in card
    assert "**Trained and tested on a part of CIFAR-10** (40 training, 40 test images)" in card
    assert f'"weights": "{load_model(real_sweep).trial.model.weights}"' in card


@pytest.mark.assets
def test_onnx_that_disagrees_is_an_error(real_sweep, exported, test_images):
    model = load_model(real_sweep)
    with torch.no_grad():
        model.network.head[-1].bias[3] += 0.01
    with pytest.raises(ExportError, match=r"logits differ from PyTorch's by 0\.01"):
        largest_difference(model, exported / "model.onnx", test_images.images[:2])


@pytest.mark.assets
def test_nothing_is_left_where_the_check_fails(real_sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(raycifar.export, "write_onnx", lambda model, images, file: file.write_bytes(b"no model"))
    with pytest.raises(ExportError, match="does not run in onnxruntime"):
        export_model(real_sweep / "scratch", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_sweep_that_is_not_finished_is_refused_in_one_line(tmp_path, capsys):
    folder = write_sweep(tmp_path / "sweep", {"transfer": (2, 1)})
    write_failure(folder, "transfer-2", "lost")
    assert analyze.main([str(folder.path), "--export"]) == 2
    assert capsys.readouterr().err == (
        f"analyze.py: {folder.path}: transfer-2 not finished, so the best network is not known yet: "
        "finish the sweep (the same command resumes), or name a finished trial's folder\n"
    )


def test_a_missing_package_is_answered_with_the_line_that_installs_it(tmp_path, capsys, without):
    without("onnxscript")
    assert analyze.main([str(write_sweep(tmp_path / "sweep").path), "--export"]) == 2
    assert (
        "--export needs onnxscript, not installed: pip install -c constraints.txt -e '.[export]'"
        in capsys.readouterr().err
    )


PATH = {"path": "/home/somebody/ward-7/skin"}
CARDS = {  # data, model, the record's weights: in the card, and not in it
    "VGG16 on CIFAR-10": (
        {},
        {"weights": "imagenet"},
        {"weights": "vgg16.safetensors"},
        [
            "datasets: [cifar10]",
            "torchvision's weights of VGG16 (code under BSD",
            "published without one",
            "license: other",
        ],
        ["own"],
    ),
    "a file of the user's own": (
        {},
        {"weights": "imagenet"},
        {"weights": "vgg16-0123456789abcdef.safetensors"},
        ["a file of the user's own (`vgg16-0123456789abcdef.safetensors` in the cache): its terms apply"],
        ["BSD"],
    ),
    "torchvision's": (
        {},
        {"name": "torchvision/resnet18", "weights": "imagenet"},
        {"pretrained": {"torchvision/resnet18": "torchvision-resnet18.safetensors"}},
        ["# resnet18 on", "torchvision's weights of resnet18 (code under BSD", "tags: [torchvision/resnet18, cifar10]"],
        ["file of the user's own"],
    ),
    "timm's": (
        {},
        {"name": "timm/resnet18", "weights": "imagenet"},
        {"pretrained": {"timm/resnet18": "timm-resnet18.safetensors"}},
        ["timm's weights of resnet18 (code under Apache 2.0", "terms of their own"],
        ["BSD"],
    ),
    "a file of another network": (
        {},
        {"name": "timm/resnet18", "weights": "imagenet"},
        {"pretrained": {"timm/resnet18": "timm-resnet18-0123456789abcdef.safetensors"}},
        ["a file of the user's own (`timm-resnet18-0123456789abcdef.safetensors`"],
        ["Apache"],
    ),
    "images of the user's own": (
        PATH,
        {"weights": "random"},
        {},
        [
            "datasets: []",
            "license: mit",
            "skin are images of the user's own",
            "no pretrained weights",
            '"path": "skin"',
        ],
        ["cifar10", "CIFAR-10", "ward-7"],
    ),
    "a data set of torchvision": (
        {"name": "torchvision/Flowers102"},
        {"weights": "random"},
        {},
        ["datasets: [flowers102]", "The licence of Flowers is not known here"],
        ["cifar10", "user's own", "black ones"],
    ),
    "a data set with a border": (
        {"name": "torchvision/KMNIST"},
        {"weights": "random"},
        {},
        ["datasets: [kmnist]", "of 28 pixels a side, gets 2 black ones on each side first"],
        ["cifar10"],
    ),
}


@pytest.mark.parametrize("case", CARDS)
def test_the_card_says_whose_the_images_and_the_weights_are(tmp_path, case):
    data, model, record, there, absent = CARDS[case]
    title = {"path": "skin", "name": "Flowers"}.get(next(iter(data), ""), "CIFAR-10")
    facts = CIFAR10.model_copy(update={"title": title, "licence": CIFAR10.licence if not data else "", "origin": ""})
    folder = write_sweep(tmp_path / "s", {"a": (1, 1)}, data={})
    spec = trial_spec(folder, "a")
    spec = spec.model_copy(
        update={"model": Model.model_validate(model), "data": Data.model_validate(data).with_facts(facts)}
    )
    folder.write_record(replace(folder.record(), **record))
    with torch.device("meta"):
        network = make_network(spec.model, facts)
    card = model_card(TrainedModel(network, spec, folder.trial("a").summary()), folder, (256, 1e-6), 1)
    assert [part for part in there if part not in card] == []
    assert [part for part in absent if part in card] == []


def test_names_of_classes_mean_nothing_in_the_card(tmp_path):
    folder = write_sweep(tmp_path / "s", {"a": (1, 1)})
    names = ("[x](javascript:alert)", "<script>", *CIFAR10.classes[2:])
    facts = CIFAR10.model_copy(update={"title": "a|b [c](d)", "classes": names})
    spec = trial_spec(folder, "a").with_facts(facts)
    with torch.device("meta"):
        network = make_network(spec.model, facts)
    card = model_card(TrainedModel(network, spec, folder.trial("a").summary()), folder, (256, 1e-6), 1)
    assert "<script>" not in card
    assert "[x](" not in card
    assert "[c](" not in card
