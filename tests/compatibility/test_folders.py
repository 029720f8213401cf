"""Folders of the version before the restructure: read, reported and refused as by that version."""

import dataclasses
import json
import shutil

import pytest

import raycifar.execution.runners
from raycifar.analysis.results import read_results
from raycifar.commands import run_sweep
from raycifar.config.sweep import SweepSpec
from raycifar.search.records import SearchFolder
from raycifar.storage.folders import SweepFolder
from tests.compatibility.files import HERE, copied, expected
from tests.compatibility.recording import differences
from tests.support.hostile import everything
from tests.support.paths import QUICK

MESSAGES = expected("messages")
FOLDERS = {"finished": HERE / "finished", "interrupted": HERE / "interrupted", "quick": QUICK}
# What came when there were results already: files from before have none of it.
LATER = {
    "history.json": ("precision", "energy_joules", "warnings"),
    "invocations.json": ("gpus", "trials_at_once", "runner"),
    "sweep.json": (
        *("upsample", "policy", "mixup", "cutmix", "mix_probability", "muon_lr", "head_decay_ratio"),
        *("bias_decay_ratio", "head_lr_ratio", "layer_decay", "clip_norm", "ema_recompute_batch_norm", "swa_epochs"),
    ),
}


@pytest.fixture(autouse=True)
def nothing_may_start(monkeypatch, no_leaving):
    monkeypatch.setenv("COLUMNS", MESSAGES["columns"])
    monkeypatch.setattr(raycifar.execution.runners, "fetch_assets", lambda *_: pytest.fail("reached for the data"))


def called(capsys, storage, file, *options):
    """The exit status of run_sweep.py in this process, what it printed, and its errors."""
    status = run_sweep.main([str(HERE / file), "--storage", str(storage), *options])
    return status, *(text.replace(str(storage), "STORAGE") for text in capsys.readouterr())


@pytest.mark.parametrize("name", FOLDERS)
def test_its_epochs_trials_and_sessions_have_the_same_figures(tmp_path, name):
    results = read_results(shutil.copytree(FOLDERS[name], tmp_path / name))
    frames = {"epochs": results.epochs, "trials": results.trials, "sessions": results.sessions}
    found = {key: json.loads(frame.to_json(orient="records", double_precision=15)) for key, frame in frames.items()}
    assert not results.problems
    assert differences(expected("figures")[name], found, rel=1e-12) == []


@pytest.mark.parametrize("case", MESSAGES["calls"], ids=[case["title"] for case in MESSAGES["calls"]])
def test_a_call_on_it_says_the_same_and_writes_nothing(capsys, tmp_path, case):
    storage = copied(tmp_path)
    before = [entry for entry in everything(storage) if entry[0].name != "sweep.lock"]
    assert called(capsys, storage, *case["call"]) == (case["status"], case["out"], case["err"])
    assert [entry for entry in everything(storage) if entry[0].name != "sweep.lock"] == before


def without(data, keys):
    """JSON without these keys, however deep."""
    if isinstance(data, dict):
        return {key: without(value, keys) for key, value in data.items() if key not in keys}
    return [without(value, keys) for value in data] if isinstance(data, list) else data


@pytest.fixture
def older(tmp_path):
    """The finished sweep as an earlier version would have left it."""
    storage = copied(tmp_path, "finished")
    for name, keys in LATER.items():
        for path in (storage / "finished").rglob(name):
            thinner = without(json.loads(path.read_text()), keys)
            assert thinner != json.loads(path.read_text())
            path.write_text(json.dumps(thinner))
    record = storage / "finished" / "sweep.json"
    record.write_text(json.dumps({k: v for k, v in json.loads(record.read_text()).items() if k != "weights"}))
    return storage


def test_records_with_fewer_fields_are_read(older):
    found = read_results(older / "finished")
    assert found.problems == []
    figures = expected("figures")["finished"]["trials"]
    assert list(found.trials["status"]) == ["finished", "finished"]
    assert list(found.trials["test_accuracy"]) == [row["test_accuracy"] for row in figures]
    (session,) = SweepFolder(older / "finished").trial("transfer").history().sessions
    assert (session.precision, session.energy_joules, session.warnings) == ("", None, [])
    (invocation,) = found.invocations
    assert (invocation.gpus, invocation.trials_at_once, invocation.runner) == (0, 1, "ray")


def test_a_sweep_whose_settings_came_later_has_nothing_to_do(capsys, older):
    status, printed, _ = called(capsys, older, "finished.toml")
    assert status == 0
    assert printed.startswith("Nothing to do: all 2 trials in STORAGE/finished have finished.\n")


def test_records_with_more_fields_are_read(tmp_path):
    folder = SweepFolder(copied(tmp_path, "finished") / "finished")
    record, summary = folder.record(), folder.trial("scratch").summary()
    for path in (folder.path / "sweep.json", folder.path / "scratch" / "summary.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"of_a_later_version": [1]}))
    assert (folder.record(), folder.trial("scratch").summary()) == (record, summary)


def test_its_spec_is_understood_and_has_the_recorded_fingerprint():
    for name in ("finished", "interrupted"):
        record = SweepFolder(HERE / name).record()
        assert SweepSpec.model_validate(record.spec).fingerprint() == record.fingerprint


def test_a_searchs_record_and_samples_are_read():
    folder = SearchFolder(HERE / "search")
    recorded = [json.loads(path.read_text()) for path in sorted(folder.path.glob("sample-*/sample.json"))]
    assert [dataclasses.asdict(sample) for sample in folder.samples()] == recorded
    later = {"data": "", "facts": {}, "pretrained": {}, "code": {}}  # fields that came when there were results already
    assert folder.record().to_json() == json.loads((folder.path / "search.json").read_text()) | later


def test_a_search_without_its_tables_writes_them_again_as_they_were(capsys, tmp_path):
    search = copied(tmp_path, "search") / "search"
    before = [(search / name).read_text() for name in ("best.toml", "samples.csv")]
    for name in ("best.toml", "samples.csv"):
        (search / name).unlink()
    assert called(capsys, tmp_path, "search.toml")[0] == 0
    after = [(search / name).read_text() for name in ("best.toml", "samples.csv")]
    assert [text.split("\n", 1)[1] for text in after] == [text.split("\n", 1)[1] for text in before]
    assert after[1] == before[1]
    assert "search.toml, sample-0004: 30.00 % validation accuracy" in after[0].split("\n")[0]
