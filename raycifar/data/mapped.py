"""Images that stay in their memory-mapped file, because they do not fit the device: a thread gathers the next batches.

Which images a step gets, and all that is drawn for them, is the same as with images on the device.
Shapes: M images in the file, N of them in the split, B in a batch, H = W the side of an image.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

BATCHES_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Arriving:
    """Images uint8 (B, 3, H, W) on the device, or on their way to it: on a GPU until `there` has happened."""

    images: Tensor
    there: torch.cuda.Event | None = None

    def wait(self) -> Tensor:
        """The images, for what runs on the current stream from now on."""
        if self.there is not None:
            stream = torch.cuda.current_stream(self.images.device)
            stream.wait_event(self.there)
            self.images.record_stream(stream)
        return self.images


@dataclass(frozen=True, slots=True)
class Mapped:
    """Takes the place of a tensor of images (N, 3, H, W) in a Split; what is read of it comes as tensors on `device`.

    Raises IndexError for images that the file does not have.
    """

    source: Tensor  # uint8 (M, 3, H, W), contiguous, on the host
    index: Tensor  # int64 (N,), on the host: which images of the file
    device: torch.device

    def __post_init__(self) -> None:
        if len(self.index) and not 0 <= int(self.index.min()) <= int(self.index.max()) < len(self.source):
            raise IndexError(f"image {int(self.index.max())} is asked for, and the file has {len(self.source)}")

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.index), *self.source.shape[1:]))

    def __getitem__(self, which: slice | Tensor) -> Tensor:
        """These images, read now."""
        return self.gathered(which.cpu() if isinstance(which, Tensor) else which).wait()

    def take(self, which: slice | Tensor) -> "Mapped":
        """These images, to be read later."""
        return replace(self, index=self.index[which.cpu() if isinstance(which, Tensor) else which])

    def to(self, device: torch.device) -> "Mapped":
        return replace(self, device=device)

    def split(self, at_once: int) -> Iterator[Tensor]:
        """All images in order, `at_once` at a time, the next ones gathered meanwhile."""
        parts = torch.arange(len(self)).split(at_once)
        with ThreadPoolExecutor(1, "images") as thread:
            futures = (thread.submit(self.gathered, part, _side_stream(self.device)) for part in parts)
            ahead = deque(islice(futures, BATCHES_AHEAD))
            while ahead:
                images = ahead.popleft().result().wait()
                ahead.extend(islice(futures, 1))
                yield images

    def gathered(self, which: slice | Tensor, stream: torch.cuda.Stream | None = None) -> Arriving:
        """These images (an index on the host), copied to a GPU on `stream`; NumPy's `take` gathers on one thread."""
        index, on_gpu = self.index[which], self.device.type == "cuda"
        images = torch.empty((len(index), *self.source.shape[1:]), dtype=torch.uint8, pin_memory=on_gpu)
        # `clip` writes into `out` at once; no index is out of range.
        np.take(self.source.numpy(), index.numpy(), axis=0, out=images.numpy(), mode="clip")
        if not on_gpu:
            return Arriving(images)
        # PyTorch keeps pinned memory from being used again before the copy has happened.
        with torch.cuda.stream(stream or torch.cuda.current_stream(self.device)):
            there = torch.cuda.Event()
            arriving = Arriving(images.to(self.device, non_blocking=True), there)
            there.record()
        return arriving


class ReadAhead:
    """The batches of mapped images that a step trains on, gathered by a thread while the steps before them run."""

    def __init__(self, images: Mapped, batch: int) -> None:
        """`batch`: the most images that are read at once."""
        self._images, self._stream = images, _side_stream(images.device)
        shape = (batch, *images.shape[1:])
        # At one address, from which a CUDA graph reads. A CPU reads each batch where it was gathered.
        self._batch = torch.empty(shape, dtype=torch.uint8, device=images.device) if self._stream else None
        self._thread = ThreadPoolExecutor(1, "images")
        self._ahead: deque[tuple[Tensor, Future[Arriving]]] = deque()

    def ahead(self, order: Iterable[Tensor]) -> Iterator[Tensor]:
        """The same indices (B,), whose images are being gathered when `read` asks for them one after the other."""
        batches = list(order)
        on_host = torch.cat(batches).cpu().split([len(index) for index in batches])
        futures = (
            (index, self._thread.submit(self._images.gathered, which, self._stream))
            for index, which in zip(batches, on_host, strict=True)
        )
        self._ahead = deque(islice(futures, BATCHES_AHEAD))
        for index in batches:
            yield index
            self._ahead.extend(islice(futures, 1))

    def read(self, index: Tensor) -> Tensor:
        """The images `index` (B,), uint8 (B, 3, H, W) on the device, until the next are read."""
        if self._ahead and self._ahead[0][0] is index:
            images = self._ahead.popleft()[1].result().wait()
        else:
            images = self._images[index]
        return images if self._batch is None else self._batch[: len(images)].copy_(images)


def _side_stream(device: torch.device) -> torch.cuda.Stream | None:
    return torch.cuda.Stream(device) if device.type == "cuda" else None
