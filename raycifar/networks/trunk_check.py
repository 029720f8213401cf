"""Whether a trunk of VGG16 expects this product's pixels (RGB, 0..1, less mean, by deviation), and was trained at all.

Only signs with a wide margin are used, so that a right trunk is never refused. Measured:

- **Root mean square of the first kernels**: 0.251 in torchvision's ImageNet weights and 0.0043 once they are folded for
  pixels 0..255; 0.059 in He's initialisation by fan-out, 0.058 in Glorot's, 0.109 in PyTorch's, and 0.067 in a network
  trained from scratch. It is refused below 0.008.
- **Descent**: kernels stay like those that they were trained from. The cosine of the first four kernels to those of
  torchvision is 0.9994 or more after fine-tuning (three trials of sweeps/quick.toml; also 20 steps of Adam at 0.001).
  Torchvision's with channels reversed have 0.27, a network trained from scratch 0.03, 100,000 drawn ones at most 0.41,
  torchvision's own in 100,000 random orders at most 0.87. Above 0.95 a trunk descends from torchvision's, and the order
  of its channels and the scale of its pixels are known. The network of the paper's authors (Caffe, Keras, MatConvNet,
  torchvision's IMAGENET1K_FEATURES) expects pixels 0..255 with kernels of the size of torchvision's, 0.4 for instance:
  only its descent shows that, by kernels and biases.
- **Initialisation**: kernels of torchvision's trunk have a kurtosis of 3.7 to 9.1; drawn ones have 3 (normal) or 1.8
  (uniform), with biases that are 0, or drawn from the interval of the kernels. One step of SGD at 0.01 moves biases or
  kernels out of that, and the trunk is taken (from He's and from PyTorch's initialisation).

Not looked for is the order of channels of a trunk of unknown descent: features of real images do not tell it without
refusing networks that were trained on other data (LOG.md, 2026-11-30).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

FIRST = "features.0"
INSIST = "; if they are right as they are, say so with --weights-as-they-are"
EXPECTED = "expected RGB, 0..1, normalised as torchvision does"
LEAST_RMS = 0.008  # of the first kernels
LEAST_COSINE = 0.95  # of kernels that descend from known ones
OWN_SCALE = (0.1, 1.6)  # of torchvision's kernels, fine-tuned; for pixels 0..255 it is 0.017, -1..1 2.2, 0..1 4.4
CAFFES_FOLDED = 10  # times Caffe's own kernels: folded for normalised pixels it is 57

# The first four kernels of vgg16-397923af.pth, (4, RGB, 3, 3), and their biases.
TORCHVISION = np.array(
    [
        [-0.554, 0.143, 0.529, -0.583, 0.357, 0.766, -0.690, -0.048, 0.484],
        [0.175, 0.010, -0.081, 0.044, -0.070, -0.260, 0.132, -0.173, -0.132],
        [0.313, -0.166, -0.428, 0.475, -0.083, -0.487, 0.632, 0.019, -0.278],
        [0.233, 0.127, 0.186, -0.428, -0.243, 0.246, -0.251, 0.142, -0.005],
        [-0.141, -0.219, 0.150, -0.841, -0.352, 0.564, -0.242, 0.519, 0.539],
        [-0.314, -0.370, -0.131, -0.471, -0.155, 0.346, 0.054, 0.587, 0.496],
        [0.177, 0.521, 0.010, -0.272, -0.717, 0.313, -0.076, -0.221, 0.335],
        [0.309, 0.671, 0.021, -0.466, -1.070, 0.335, -0.080, -0.305, 0.545],
        [0.316, 0.423, -0.350, 0.086, -0.465, 0.012, 0.105, -0.146, -0.016],
        [0.067, 0.193, 0.184, 0.052, 0.251, 0.202, -0.056, 0.034, -0.035],
        [-0.179, -0.089, 0.047, -0.257, -0.051, 0.075, -0.185, -0.118, -0.104],
        [-0.068, 0.119, 0.194, -0.120, 0.139, 0.272, -0.134, 0.016, 0.093],
    ]
).reshape(4, 3, 3, 3)
TORCHVISION_BIASES = np.array([0.4034, 0.3778, 0.4644, -0.3228])
# The first three kernels of the Caffe network, (3, RGB, 3, 3), and ten biases, as far as they have been printed.
CAFFE = np.full((3, 3, 3, 3), np.nan)
CAFFE[:, :, 0, 0] = [[0.48002, 0.55038, 0.42947], [-0.17270, 0.02088, 0.11727], [0.03756, 0.09883, 0.03401]]
CAFFE[0, 2] = [[0.42947, 0.37347, -0.06136], [0.27477, 0.03868, -0.36722], [-0.05747, -0.26225, -0.35010]]
CAFFE_BIASES = np.array([0.7343, 0.0934, 0.0678, 0.8863, 0.2599, 0.6643, -0.0158, 0.3249, 0.6860, 0.0625])


def check_trunk(tensors: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError where a trunk was never trained, or expects other pixels; it names the option that insists."""
    fault = _never_trained(tensors) or _other_pixels(tensors[f"{FIRST}.weight"], tensors[f"{FIRST}.bias"])
    if fault:
        raise ValueError(fault + INSIST)


def _other_pixels(kernels: np.ndarray, biases: np.ndarray) -> str | None:
    """Which pixels the first layer expects, kernels (64, 3, 3, 3) and biases (64,), if they are not ours."""
    order, cosine, scale = likeness(kernels, TORCHVISION)
    if cosine > LEAST_COSINE:
        rescaled = np.allclose(biases[:4], scale * TORCHVISION_BIASES, rtol=0.2)  # and the next layer the other way
        pixels = None if rescaled else _pixels_of_scale(scale)
        if pixels or order == "BGR":
            what = f"pixels {pixels} in the order {order}" if pixels else "pixels in the order BGR"
            return f"the first kernels are torchvision's ImageNet kernels made for {what}, {EXPECTED}"
        return None
    order, cosine, scale = likeness(kernels, CAFFE)
    if min(cosine, _cosine(biases[:10], CAFFE_BIASES)) > LEAST_COSINE and scale < CAFFES_FOLDED:
        return f"these are the Caffe or Keras weights of VGG16, for pixels 0..255 in the order {order}, {EXPECTED}"
    rms = math.sqrt(np.square(kernels, dtype=np.float64).mean())
    if rms < LEAST_RMS:
        return f"the first kernels have a root mean square of {rms:.2g}, as for pixels 0..255, {EXPECTED} (0.06 to 0.3)"
    return None


def _pixels_of_scale(scale: float) -> str | None:
    least, most = OWN_SCALE
    if least <= scale <= most:
        return None
    return "0..255" if scale < least else "0..1 or -1..1, not normalised,"


def likeness(kernels: np.ndarray, known: np.ndarray) -> tuple[str, float, float]:
    """The order of channels in which kernels are most like known ones, with their cosine and scale in it.

    `known` are the first few, RGB, NaN where not known.
    """
    given, there = kernels[: len(known)].astype(np.float64), ~np.isnan(known)
    known_values, found = known[there], []
    for order, values in (("RGB", given[there]), ("BGR", given[:, ::-1][there])):
        scale = float(values @ known_values) / float(known_values @ known_values)
        found.append((order, _cosine(values, known_values), scale))
    return max(found, key=lambda one: one[1])


def _cosine(given: np.ndarray, known: np.ndarray) -> float:
    norm = float(np.linalg.norm(given) * np.linalg.norm(known))
    return float(given @ known) / norm if norm else 0.0


def _never_trained(tensors: Mapping[str, np.ndarray]) -> str | None:
    kernels = {name: tensor for name, tensor in tensors.items() if name.endswith(".weight")}
    for name, kernel in kernels.items():
        if not kernel.any():
            return f"{name} holds nothing but zeros: the trunk was never trained"
    layers = [(kernel, tensors[name.replace(".weight", ".bias")]) for name, kernel in kernels.items()]
    if all(is_initial(*layer) for layer in layers):
        return "kernels and biases are those of a random initialisation: the trunk was never trained"
    return None


def is_initial(kernel: np.ndarray, bias: np.ndarray) -> bool:
    """Whether a layer looks freshly drawn: biases of 0 (He, Glorot), or PyTorch's default for a convolution."""
    bound = (1 + 1e-6) / math.sqrt(kernel[0].size)
    drawn = np.abs(bias).max() <= bound and np.abs(kernel).max() <= bound
    if bias.any() and not drawn:
        return False
    return kurtosis(kernel) < (3.0 if not bias.any() else 1.8) + 5 * math.sqrt(24 / kernel.size)


def kurtosis(values: np.ndarray) -> float:
    """Fourth moment over squared variance: 3 for a normal distribution, 1.8 for a uniform one; NaN for a constant."""
    centred = values - values.mean(dtype=np.float64)
    square = np.square(centred)
    variance = float(square.mean())
    return float(np.square(square).mean()) / variance**2 if variance else math.nan
