"""Whether a trunk of VGG16 expects this product's pixels (RGB, 0..1, less mean, by deviation), and was trained at all.

Both show in the numbers alone, and a wrong answer costs a sweep, so each sign must hold with a wide margin. Measured:

- **Root mean square of the first kernels**: 0.251 in torchvision's ImageNet weights, 0.0044 once folded for pixels
  0..255, 0.0589 in He's initialisation by fan-out, 0.0577 in Glorot's, 0.111 in PyTorch's. Refused below 0.008.
- **Descent**: kernels keep their likeness to those that they were trained from. The cosine of the first two kernels to
  torchvision's is above 0.99 after fine-tuning, and that to those in reverse order of channels is 0.17; unrelated
  kernels reach 0.9 (of 54 numbers) by no chance. For a trunk of such descent the order of channels and the scale of
  pixels are known. The Caffe network of the paper's authors (Keras, MatConvNet, torchvision's IMAGENET1K_FEATURES)
  expects pixels 0..255 with kernels of the same size as torchvision's: only its descent gives it away.
- **Initialisation**: kernels of torchvision's trunk have a kurtosis of 3.7 to 9.1; drawn ones have 3 (normal) or 1.8
  (uniform), and biases that are 0, or drawn from the same interval. A single step of training moves the biases.

Not used, for it also accuses right weights: the order of channels of a trunk of unknown descent, told by what layers
say of real photographs. The mean square of the last layer in BGR over that in RGB was 0.87 for torchvision's weights
(100 images of CIFAR-10), 0.86 fine-tuned and 0.92 trained from scratch, but 1.06 for drawn ones, and image by image
RGB gave more for 57 %, 66 %, 67 % and 27 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

FIRST = "features.0"
INSIST = "; if they are right as they are, say so with --weights-as-they-are"
EXPECTED = "expected RGB, 0..1, normalised as torchvision does"
LEAST_RMS = 0.008  # of the first kernels
LEAST_COSINE = 0.9  # of kernels that descend from known ones
OWN_SCALE = (0.1, 1.6)  # of torchvision's kernels, fine-tuned; for pixels 0..255 it is 0.017, -1..1 2.2, 0..1 4.4
CAFFES_FOLDED = 10  # times Caffe's own kernels: folded for normalised pixels it is 57

# The first two kernels of vgg16-397923af.pth, (2, RGB, 3, 3), and their biases.
TORCHVISION = np.array(
    [
        [-0.554, 0.143, 0.529, -0.583, 0.357, 0.766, -0.690, -0.048, 0.484],
        [0.175, 0.010, -0.081, 0.044, -0.070, -0.260, 0.132, -0.173, -0.132],
        [0.313, -0.166, -0.428, 0.475, -0.083, -0.487, 0.632, 0.019, -0.278],
        [0.233, 0.127, 0.186, -0.428, -0.243, 0.246, -0.251, 0.142, -0.005],
        [-0.141, -0.219, 0.150, -0.841, -0.352, 0.564, -0.242, 0.519, 0.539],
        [-0.314, -0.370, -0.131, -0.471, -0.155, 0.346, 0.054, 0.587, 0.496],
    ]
).reshape(2, 3, 3, 3)
TORCHVISION_BIASES = np.array([0.4034, 0.3778])
# The first three kernels of the Caffe network, as far as they have been printed, (3, RGB, 3, 3).
CAFFE = np.full((3, 3, 3, 3), np.nan)
CAFFE[:, :, 0, 0] = [[0.48002, 0.55038, 0.42947], [-0.17270, 0.02088, 0.11727], [0.03756, 0.09883, 0.03401]]
CAFFE[0, 2] = [[0.42947, 0.37347, -0.06136], [0.27477, 0.03868, -0.36722], [-0.05747, -0.26225, -0.35010]]


def check_trunk(tensors: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError where a trunk was never trained, or expects other pixels; it names the option that insists."""
    fault = _never_trained(tensors) or _other_pixels(tensors[f"{FIRST}.weight"], tensors[f"{FIRST}.bias"])
    if fault:
        raise ValueError(fault + INSIST)


def _other_pixels(kernels: np.ndarray, biases: np.ndarray) -> str | None:
    """Which pixels the first layer expects, kernels (64, 3, 3, 3) and biases (64,), if they are not ours."""
    order, cosine, scale = likeness(kernels, TORCHVISION)
    if cosine > LEAST_COSINE:
        rescaled = np.allclose(biases[:2], scale * TORCHVISION_BIASES, rtol=0.2)  # and the next layer the other way
        pixels = None if rescaled else _pixels_of_scale(scale)
        if pixels or order == "BGR":
            what = f"pixels {pixels} in the order {order}" if pixels else "pixels in the order BGR"
            return f"the first kernels are torchvision's ImageNet kernels made for {what}, {EXPECTED}"
        return None
    order, cosine, scale = likeness(kernels, CAFFE)
    if cosine > LEAST_COSINE and (scale < CAFFES_FOLDED or order == "BGR"):
        pixels = "0..255 in the order" if scale < CAFFES_FOLDED else "in the order"
        return f"these are the Caffe or Keras weights of VGG16, for pixels {pixels} {order}, {EXPECTED}"
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
        product, norm = float(values @ known_values), float(np.linalg.norm(values) * np.linalg.norm(known_values))
        found.append((order, product / norm if norm else 0.0, product / float(known_values @ known_values)))
    return max(found, key=lambda one: one[1])


def _never_trained(tensors: Mapping[str, np.ndarray]) -> str | None:
    kernels = {name: tensor for name, tensor in tensors.items() if name.endswith(".weight")}
    for name, kernel in kernels.items():
        if not kernel.any():
            return f"{name} holds nothing but zeros: the trunk was never trained"
    layers = [(kernel, tensors[name.replace(".weight", ".bias")]) for name, kernel in kernels.items()]
    if all(_is_initial(*layer) for layer in layers):
        return "kernels and biases are those of a random initialisation: the trunk was never trained"
    return None


def _is_initial(kernel: np.ndarray, bias: np.ndarray) -> bool:
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
