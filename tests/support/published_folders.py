"""torchvision's data sets as it leaves them unpacked, made of the sample's real images: for what is read, not fetched.

Each function writes a folder with images of the classes 0 and 1 in turn, and returns what torchvision's class has to be
told besides: digests of these files.
"""

import bz2
import csv
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file
from scipy.io import savemat

from tests.support.paths import SAMPLE
from tests.support.published import in_grey, md5

PIXELS = load_file(SAMPLE)["train_images"]
TRAIN, TEST, VAL = range(0, 40), range(40, 60), range(60, 80)


def photograph(number: int) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(PIXELS[number].transpose(1, 2, 0)))


def save(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    photograph(number).resize((48, 40)).save(path)
    return path


def classes_of(root: Path, names: tuple[str, str], numbers: range, file: str = "{}.jpg") -> None:
    for number in numbers:
        save(root / names[number % 2] / file.format(number), number)


def svhn(root: Path) -> dict[str, Any]:
    known = {}
    for split, numbers in (("train", TRAIN), ("test", TEST)):
        path = root / f"{split}_32x32.mat"
        labels = np.array([[10 if number % 2 == 0 else 1] for number in numbers], np.uint8)  # 10 is the digit 0
        savemat(path, {"X": PIXELS[list(numbers)].transpose(2, 3, 1, 0), "y": labels})
        known[split] = ["", path.name, md5(path)]
    return {"split_list": known}


def stl10(root: Path) -> dict[str, Any]:
    folder, known = root / "stl10_binary", {}
    folder.mkdir()
    for split, numbers in (("train", TRAIN), ("test", TEST)):
        large = np.stack([np.asarray(photograph(number).resize((96, 96))) for number in numbers])
        (folder / f"{split}_X.bin").write_bytes(large.transpose(0, 3, 2, 1).tobytes())
        (folder / f"{split}_y.bin").write_bytes(bytes(1 + number % 2 for number in numbers))
        known[f"{split}_list"] = [[f"{split}_{kind}.bin", md5(folder / f"{split}_{kind}.bin")] for kind in "Xy"]
    (folder / "class_names.txt").write_text("airplane\nbird\n")
    return known


def usps(root: Path) -> dict[str, Any]:
    for name, numbers in (("usps.bz2", TRAIN), ("usps.t.bz2", TEST)):
        rows = []
        for number in numbers:
            grey = np.asarray(photograph(number).convert("L").resize((16, 16))).ravel() / 127.5 - 1
            rows.append(f"{1 + number % 2} " + " ".join(f"{i}:{value:.4f}" for i, value in enumerate(grey, 1)))
        (root / name).write_bytes(bz2.compress("\n".join(rows).encode()))
    return {}


def kmnist(root: Path) -> dict[str, Any]:
    folder = root / "KMNIST/raw"
    folder.mkdir(parents=True)
    for start, numbers in (("train", TRAIN), ("t10k", TEST)):
        grey = np.stack([in_grey(PIXELS[number]) for number in numbers])
        labels = bytes(number % 2 for number in numbers)
        images = struct.pack(">4i", 2051, len(grey), 28, 28) + grey.tobytes()
        (folder / f"{start}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{start}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, len(labels)) + labels)
    return {"classes": ["o", "ki"]}


def flowers(root: Path) -> dict[str, Any]:
    folder = root / "flowers-102"
    for number in (*TRAIN, *TEST, *VAL):
        save(folder / f"jpg/image_{number + 1:05d}.jpg", number)
    parts = {"trnid": TRAIN, "valid": VAL, "tstid": TEST}
    savemat(folder / "setid.mat", {key: np.array([n + 1 for n in numbers]) for key, numbers in parts.items()})
    savemat(folder / "imagelabels.mat", {"labels": np.array([1 + n % 2 for n in range(80)])})
    files = {"label": "imagelabels.mat", "setid": "setid.mat"}
    known = {key: (name, md5(folder / name)) for key, name in files.items()}
    return {"_file_dict": {"image": ("102flowers.tgz", ""), **known}, "classes": ["primrose", "orchid"]}


def food(root: Path) -> dict[str, Any]:
    for split, numbers in (("train", TRAIN), ("test", TEST)):
        listed = {"apple_pie": [], "waffles": []}  # type: dict[str, list[str]]
        for number in numbers:
            name = list(listed)[number % 2]
            listed[name].append(f"{name}/{number}")
            save(root / f"food-101/images/{name}/{number}.jpg", number)
        (root / "food-101/meta").mkdir(exist_ok=True)
        (root / f"food-101/meta/{split}.json").write_text(json.dumps(listed))
    return {}


def gtsrb(root: Path) -> dict[str, Any]:
    classes_of(root / "gtsrb/GTSRB/Training", ("00000", "00001"), TRAIN, "{}.ppm")
    table = io.StringIO()
    writer = csv.writer(table, delimiter=";")
    writer.writerow(["Filename", "ClassId"])
    for number in TEST:
        writer.writerow([save(root / f"gtsrb/GTSRB/Final_Test/Images/{number}.ppm", number).name, number % 2])
    (root / "gtsrb/GT-final_test.csv").write_text(table.getvalue())
    return {}


def caltech(root: Path) -> dict[str, Any]:
    folder = root / "caltech101/101_ObjectCategories"
    (folder / "BACKGROUND_Google").mkdir(parents=True)
    for label, name in enumerate(("accordion", "airplanes")):
        for place, number in enumerate(TRAIN[label::2], 1):
            save(folder / name / f"image_{place:04d}.jpg", number)
    return {}


def caltech256(root: Path) -> dict[str, Any]:
    for label, name in enumerate(("001.ak47", "002.american-flag")):
        for place, number in enumerate(TRAIN[label::2], 1):
            save(root / f"caltech256/256_ObjectCategories/{name}/{1 + label:03d}_{place:04d}.jpg", number)
    return {}


def eurosat(root: Path) -> dict[str, Any]:
    classes_of(root / "eurosat/2750", ("Forest", "River"), TRAIN)
    return {}


def sun(root: Path) -> dict[str, Any]:
    classes_of(root / "SUN397/a", ("abbey", "alley"), TRAIN, "sun_{}.jpg")
    (root / "SUN397/ClassName.txt").write_text("/a/abbey\n/a/alley\n")
    return {}


def aircraft(root: Path) -> dict[str, Any]:
    folder, names = root / "fgvc-aircraft-2013b/data", ("707-320", "F/A-18")
    for split, numbers in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        for number in numbers:
            save(folder / f"images/{number:07d}.jpg", number)
        lines = [f"{number:07d} {names[number % 2]}" for number in numbers]
        (folder / f"images_variant_{split}.txt").write_text("\n".join(lines))
    (folder / "variants.txt").write_text("\n".join(names))
    return {}


def countries(root: Path) -> dict[str, Any]:
    for split, numbers in (("train", TRAIN), ("valid", VAL), ("test", TEST)):
        classes_of(root / "country211" / split, ("AD", "AE"), numbers)
    return {}


def imagenette(root: Path) -> dict[str, Any]:
    for split, numbers in (("train", TRAIN), ("val", TEST)):
        classes_of(root / "imagenette2" / split, ("n01440764", "n03888257"), numbers, "{}.JPEG")
    return {}


def sentences(root: Path) -> dict[str, Any]:
    for split, numbers in (("train", TRAIN), ("valid", VAL), ("test", TEST)):
        classes_of(root / "rendered-sst2" / split, ("negative", "positive"), numbers, "{}.png")
    return {}


FOLDERS = {  # torchvision's class: what writes its folder, and the classes' names
    "SVHN": (svhn, ("0", "1")),
    "STL10": (stl10, ("airplane", "bird")),
    "USPS": (usps, ("0", "1")),
    "KMNIST": (kmnist, ("o", "ki")),
    "Flowers102": (flowers, ("primrose", "orchid")),
    "Food101": (food, ("apple_pie", "waffles")),
    "GTSRB": (gtsrb, ("0", "1")),
    "Caltech101": (caltech, ("accordion", "airplanes")),
    "Caltech256": (caltech256, ("001.ak47", "002.american-flag")),
    "EuroSAT": (eurosat, ("Forest", "River")),
    "SUN397": (sun, ("abbey", "alley")),
    "FGVCAircraft": (aircraft, ("707-320", "F/A-18")),
    "Country211": (countries, ("AD", "AE")),
    "Imagenette": (imagenette, ("tench", "parachute")),
    "RenderedSST2": (sentences, ("negative", "positive")),
}
