"""Networks on the command line: listed, refused in one line, and whose weights a file is."""

from pathlib import Path

import pytest

from raycifar.commands import run_sweep
from raycifar.commands.run_options import parse_arguments, sweep_options
from tests.support.paths import SWEEPS

REFUSED = {
    "one that is not there": (
        ["--set=model.name=torchvision/resnet19", "--set=model.batch_norm=false"],
        "did you mean",
    ),
    "a block too many": (["--set=transfer.model.train=block20"], "'block20': the network has 9 blocks"),
    "too small": (["--set=vgg11.model.name=torchvision/alexnet", "--set=vgg11.model.batch_norm=false"], "at least 64"),
    "a file of no network here": (
        ["--weights=torchvision/resnet18=w.pth"],
        "no trial starts from ImageNet weights of it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_network_does_is_refused_in_one_line_before_anything_starts(tmp_path, capsys, case):
    arguments, why = REFUSED[case]
    plan = [str(SWEEPS / "fashion.toml"), "--gpus=0", "--dry-run", f"--storage={tmp_path}", *arguments]
    assert run_sweep.main(plan) == 2
    errors = capsys.readouterr().err.splitlines()
    assert why in errors[-1]
    assert not list(tmp_path.iterdir())


def test_models_are_listed_a_line_each(capsys):
    assert run_sweep.main(["--list-models", "torchvision/resnet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["torchvision/resnet152", "60.19", "M", "23.03", "G", "download"]
    assert len(lines) == 5
    assert run_sweep.main(["--list-models", "no-such"]) == 2


def test_a_file_of_weights_may_say_whose_they_are():
    args = parse_arguments(["--weights=torchvision/resnet18=a=b.pth", "--weights=c=d.pth"])
    options = sweep_options(args, None)
    assert options.weights_of == {"torchvision/resnet18": Path("a=b.pth")}
    assert options.weights == Path("c=d.pth")


@pytest.mark.parametrize("twice", [["a.pth", "b.pth"], ["vgg16=a.pth", "vgg16=b.pth"]])
def test_two_files_for_one_network_are_refused(twice, capsys):
    with pytest.raises(SystemExit):
        parse_arguments([f"--weights={file}" for file in twice])
    assert "argument --weights: two files" in capsys.readouterr().err
