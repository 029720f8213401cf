"""Files of data and weights as others write them."""

import io
import pickle
import struct

import numpy as np
import torch

from raycifar.networks import weights
from tests.support.hostile import nothing_waits_for_ever  # noqa: F401


def vgg16_zeros(**changes):
    zeros = {name: np.zeros(shape, dtype) for name, (dtype, shape) in weights.VGG16_LAYOUT.items()}
    return {name: tensor for name, tensor in (zeros | changes).items() if tensor is not None}


def vgg16_toy(**changes):
    """A trunk that passes for trained, though every kernel holds one number only."""
    fifths = {name: np.full(shape, 0.2, dtype) for name, (dtype, shape) in weights.VGG16_LAYOUT.items()}
    return {name: tensor for name, tensor in (fifths | changes).items() if tensor is not None}


def small_trunk(prefix="features.", value=0.2, **changes):
    """A trunk that holds one number, as torch.save writes it: some kilobytes, for a tensor's elements share memory."""
    one = torch.full((1,), value)
    trunk = {name: one.expand(shape) for name, (_, shape) in weights.VGG16_LAYOUT.items()} | changes
    return {name.replace("features.", prefix, 1): tensor for name, tensor in trunk.items() if tensor is not None}


class Python2Pickler(pickle._Pickler):
    """Pickles as Python 2 did, as the official batches are: strings without an encoding, numpy's old module names."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, text):
        raw = text if isinstance(text, bytes) else text.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string


def python2_batch(images, labels):
    """One batch as bytes, from uint8 (N, 3, 32, 32) and int64 (N,)."""
    file = io.BytesIO()
    batch = {"batch_label": "a batch", "labels": labels.tolist(), "data": images.reshape(len(images), -1)}
    Python2Pickler(file, protocol=2).dump(batch)
    return file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
