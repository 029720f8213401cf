"""Networks side by side: a table where arms differ in their network, and nowhere else."""

from dataclasses import replace

from raycifar.analysis.report.report import make_report
from raycifar.analysis.results import read_results
from raycifar.analysis.tables.networks import networks_by_arm
from tests.support.sweep_folders import write_sweep


def with_network(folder, arm, name, **cost):
    record = folder.record()
    for trial in record.spec["trials"]:
        if trial["arm"] == arm:
            trial["model"] |= {"name": name, "side": 64}
    folder.write_record(replace(record, costs={arm: cost}))


def test_arms_of_different_networks_stand_side_by_side(tmp_path):
    folder = write_sweep(tmp_path / "sweep", {"transfer": (3, 4), "scratch": (1, 6)})
    assert "Networks side by side" not in [table.title for table in make_report(read_results(folder.path)).tables]
    with_network(folder, "scratch", "torchvision/resnet18", parameters=11.18e6, flops=0.296e9)
    results = read_results(folder.path)
    assert "Networks side by side" in [table.title for table in make_report(results).tables]
    rows = {row[0]: list(row[1:6]) for row in networks_by_arm(results).rows}
    assert rows["scratch"] == ["resnet18", "random", "64", "11.18", "0.296"]
    assert rows["transfer"][:3] == ["VGG16", "imagenet", "32"]
