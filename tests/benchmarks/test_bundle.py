"""Bundles of real files, packed, carried part by part, and unpacked in an empty folder."""

import json
import random
import shutil
import subprocess
import sys
import zipfile

import pytest

from benchmarks import bundle
from tests.support.paths import ROOT

MOST = 10_000


@pytest.fixture
def content(tmp_path):
    """Some files, one of them by a link, as the cache's are, and a wheel."""
    folder = tmp_path / "content"
    (folder / "cache").mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(random.Random(1).randbytes(34_567))
    (folder / "cache" / "images").symlink_to(elsewhere)
    (folder / "cache" / "empty").write_text("")
    (folder / "wheels").mkdir()
    with zipfile.ZipFile(folder / "wheels" / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "answer = 42\n")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    return folder


@pytest.fixture
def parts(content, tmp_path):
    bundle.pack(content, tmp_path / "parts", MOST)
    return tmp_path / "parts"


def test_what_comes_out_is_what_went_in_and_no_part_is_larger_than_asked(content, parts, tmp_path):
    sizes = [path.stat().st_size for path in sorted(parts.glob("*/part.*"))]
    assert len(sizes) > 3
    assert sizes[:-1] == [MOST] * (len(sizes) - 1)
    assert 0 < sizes[-1] <= MOST
    hashes = bundle.unpack(parts, tmp_path / "there")
    assert hashes == {name: bundle.digest(content / name) for name in hashes}
    assert sorted(hashes) == ["cache/empty", "cache/images", "wheels/tiny-1.0-py3-none-any.whl"]
    assert all(bundle.digest(tmp_path / "there" / name) == expected for name, expected in hashes.items())
    assert not (tmp_path / "there" / "cache" / "images").is_symlink()


def test_parts_may_be_copied_into_one_folder(parts, tmp_path):
    together = tmp_path / "together"
    together.mkdir()
    for path in parts.glob("*/*"):
        shutil.copy(path, together)
    assert bundle.unpack(together, tmp_path / "there")


@pytest.mark.parametrize(
    ("harm", "remedy"),
    [
        (lambda part: part.unlink(), "part.01 of"),
        (lambda part: part.write_bytes(part.read_bytes()[:-1]), "damaged, or of another bundle: copy it again"),
        (lambda part: part.write_bytes(bytes(MOST)), "damaged, or of another bundle: copy it again"),
    ],
    ids=["missing", "cut", "other"],
)
def test_a_part_that_is_missing_or_damaged_is_named_and_nothing_is_unpacked(parts, tmp_path, harm, remedy, capsys):
    harm(parts / "01" / "part.01")
    assert bundle.main(["unpack", str(parts), str(tmp_path / "there")]) == 2
    assert remedy in capsys.readouterr().err
    assert not (tmp_path / "there").exists()
    assert not list(tmp_path.glob(".bundle-*"))


def test_a_file_that_came_out_other_than_it_went_in_is_named(parts, tmp_path, capsys):
    for path in parts.glob("*/manifest.json"):
        manifest = json.loads(path.read_text())
        manifest["files"]["cache/images"] = "0" * 64
        path.write_text(json.dumps(manifest))
    assert bundle.main(["unpack", str(parts), str(tmp_path / "there")]) == 2
    assert "cache/images: came out other than it went in" in capsys.readouterr().err
    assert not (tmp_path / "there").exists()


def test_neither_a_folder_with_other_files_nor_a_full_target_is_touched(content, parts, tmp_path, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    with pytest.raises(bundle.BundleError, match=r"holds letter\.txt"):
        bundle.pack(content, mine)
    assert bundle.main(["unpack", str(parts), str(mine)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in mine.iterdir()] == ["letter.txt"]


def test_a_folder_without_parts_is_named(tmp_path, capsys):
    assert bundle.main(["unpack", str(tmp_path), str(tmp_path / "there")]) == 2
    assert "copy the folders that `pack` made" in capsys.readouterr().err


def test_unpacking_installs_the_wheels_needs_no_package_and_says_what_to_export(parts, tmp_path):
    command = [sys.executable, "-m", "benchmarks.bundle", "unpack", str(parts), str(tmp_path / "there")]
    code = "import sys; from benchmarks import bundle; print({'torch', 'raycifar', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    there = tmp_path / "there"
    assert done.stdout == f"export PYTHONPATH={there / 'site'}:. RAYCIFAR_CACHE={there / 'cache'}\n"
    assert (there / "site" / "tiny.py").read_text() == "answer = 42\n"


@pytest.mark.parametrize(
    ("requirement", "name"),
    [
        ("ray[default,train,tune]>=2.60", "ray"),
        ("nvidia-ml-py>=12", "nvidia-ml-py"),
        ("Jinja2==3", "jinja2"),
        ("ruamel.yaml ~= 1", "ruamel-yaml"),
    ],
)
def test_a_requirements_name_is_written_as_registries_compare_it(requirement, name):
    assert bundle.name_of(requirement) == name


def test_the_machine_has_pytorch_and_lacks_ray():
    present = bundle.present_names(bundle.PRESENT)
    assert {"torch", "triton", "pytest", "lightning", "safetensors"} <= present
    assert not {"ray", "pydantic", "tensorboardx"} & present


def test_nothing_is_asked_of_a_registry_where_the_machine_has_all(tmp_path):
    bundle.fetch_wheels(["torch>=2.11", "numpy"], {"torch", "numpy"}, tmp_path / "wheels")
    assert list((tmp_path / "wheels").iterdir()) == []
