"""The same training as users of other frameworks write it: the same VGG16, weights, images, batches and optimizer.

Each runs until `after_step` raises. None syncs, logs or saves more than its usual form does.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, SupportsFloat

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models.vgg import cfgs, make_layers

from raycifar.data.splits import Split
from raycifar.networks.vgg import IMAGENET_MEAN, IMAGENET_STD
from raycifar.training.precision import autocast

LR, MOMENTUM, WEIGHT_DECAY, CROP = 0.003, 0.9, 5e-4, 4  # without warm-up, plain VGG16 collapses from 0.01 upwards
FOR_EVER = 1_000_000


@dataclass(frozen=True, slots=True)
class Work:
    """What every contender trains: VGG16 from ImageNet weights, on these images."""

    train: Split
    trunk: dict[str, Tensor]  # features.0.weight ... as torchvision names them
    batch_size: int
    device: torch.device
    threads: int
    loader_workers: int  # of a DataLoader; 0: the training process loads


AfterStep = Callable[[SupportsFloat], None]  # takes the mean loss of the epoch so far; raises when there is no next


class PilImages(Dataset[tuple[Any, int]]):
    """As torchvision.datasets.CIFAR10 hands out its images: a PIL image, transformed."""

    def __init__(self, split: Split, transform: Callable[[Image.Image], Any]) -> None:
        self._images = split.images[:].permute(0, 2, 3, 1).contiguous().cpu().numpy()
        self._labels = split.labels.tolist()
        self._transform = transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self._transform(Image.fromarray(self._images[index])), self._labels[index]


def torchvision_loader(split: Split, batch_size: int, workers: int) -> DataLoader[Any]:
    """The transforms of nearly every CIFAR-10 example, image by image."""
    steps = [
        transforms.RandomCrop(32, padding=CROP),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
    return DataLoader(
        PilImages(split, transforms.Compose(steps)),
        batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def torch_vgg16(trunk: dict[str, Tensor]) -> nn.Module:
    features = make_layers(cfgs["D"])
    features.load_state_dict({name.removeprefix("features."): weight for name, weight in trunk.items()})
    return nn.Sequential(features, nn.Flatten(), nn.Linear(512, 10))


def _sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)


def plain(
    work: Work,
    after_step: AfterStep,
    precision: str = "fp32",
    layout: torch.memory_format = torch.preserve_format,
    compiled: bool = False,
) -> None:
    """The loop of kuangliu/pytorch-cifar, which reads the loss after every step."""
    torch.backends.cudnn.benchmark = True
    model = torch_vgg16(work.trunk).to(work.device).to(memory_format=layout)
    optimizer = _sgd(model)
    if compiled:
        model.compile()
    loader = torchvision_loader(work.train, work.batch_size, work.loader_workers)
    while True:
        total = 0.0
        for step, (images, labels) in enumerate(loader, 1):
            inputs, targets = images.to(work.device, memory_format=layout), labels.to(work.device)
            optimizer.zero_grad()
            with autocast(work.device, precision):
                loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            total += loss.item()
            after_step(total / step)


def plain_bf16(work: Work, after_step: AfterStep) -> None:
    """The same loop under autocast, which is the least that a user does for speed."""
    plain(work, after_step, "bf16")


def plain_channels_last(work: Work, after_step: AfterStep) -> None:
    """bf16, and images and kernels in the memory format that a GPU's convolutions are fastest in."""
    plain(work, after_step, "bf16", torch.channels_last)


def plain_compiled(work: Work, after_step: AfterStep) -> None:
    """The same by torch.compile, which fuses what lies between the convolutions."""
    plain(work, after_step, "bf16", torch.channels_last, compiled=True)


def lightning(work: Work, after_step: AfterStep) -> None:
    """Trainer.fit with the same loader; without the logger, progress bar and checkpoints that it has by default."""
    import lightning as pl

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = torch_vgg16(work.trunk)

        def training_step(self, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
            images, labels = batch
            return F.cross_entropy(self.model(images), labels)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return _sgd(self)

    class Steps(pl.Callback):  # type: ignore[misc]
        total: Tensor | float = 0.0

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, step: int) -> None:
            self.total = outputs["loss"].detach() + (self.total if step else 0.0)
            after_step(self.total / (step + 1))

    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    accelerator = "cpu" if work.device.type == "cpu" else "auto"
    trainer = pl.Trainer(accelerator=accelerator, devices=1, max_epochs=FOR_EVER, callbacks=[Steps()], **off)
    trainer.fit(Module(), torchvision_loader(work.train, work.batch_size, work.loader_workers))


def keras(work: Work, after_step: AfterStep) -> None:
    """Model.fit from a tf.data pipeline, fp32; TensorFlow computes on CPUs, PyTorch where there is a GPU."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow" if work.device.type == "cpu" else "torch")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(work.threads)

    class Steps(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, step: int, logs: dict[str, float]) -> None:
            after_step(logs["loss"])

    model = keras_vgg16(keras, work.trunk)
    model.compile(
        keras.optimizers.SGD(LR, momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    data = _tf_data(tf, work)
    model.fit(data, epochs=FOR_EVER, verbose=0, shuffle=False, callbacks=[Steps()])


def keras_vgg16(keras: Any, trunk: dict[str, Tensor]) -> Any:
    layers = keras.layers
    model = keras.Sequential([keras.Input((32, 32, 3)), *_keras_trunk(layers), layers.Flatten(), layers.Dense(10)])
    convolutions = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]
    for number, layer in zip(sorted({int(name.split(".")[1]) for name in trunk}), convolutions, strict=True):
        kernel = trunk[f"features.{number}.weight"].permute(2, 3, 1, 0)
        layer.set_weights([kernel.contiguous().numpy(), trunk[f"features.{number}.bias"].numpy()])
    return model


def _keras_trunk(layers: Any) -> Iterator[Any]:
    for width in cfgs["D"]:
        pooled = width == "M"
        yield layers.MaxPooling2D() if pooled else layers.Conv2D(width, 3, padding="same", activation="relu")


def _tf_data(tf: Any, work: Work) -> Any:
    mean, std = tf.constant(IMAGENET_MEAN), tf.constant(IMAGENET_STD)

    def augment(image: Any, label: Any) -> tuple[Any, Any]:
        image = tf.image.resize_with_crop_or_pad(image, 32 + 2 * CROP, 32 + 2 * CROP)
        image = tf.image.random_flip_left_right(tf.image.random_crop(image, (32, 32, 3)))
        return (tf.cast(image, tf.float32) / 255 - mean) / std, label

    images = work.train.images[:].permute(0, 2, 3, 1).numpy()
    data = tf.data.Dataset.from_tensor_slices((images, work.train.labels.numpy())).shuffle(len(work.train))
    return data.map(augment, num_parallel_calls=tf.data.AUTOTUNE).batch(work.batch_size).prefetch(tf.data.AUTOTUNE)


PEERS: dict[str, Callable[[Work, AfterStep], None]] = {
    "PyTorch": plain,
    "PyTorch-bf16": plain_bf16,
    "PyTorch-channels-last": plain_channels_last,
    "PyTorch-compile": plain_compiled,
    "Lightning": lightning,
    "Keras": keras,
}
ON_REQUEST = ("PyTorch-channels-last", "PyTorch-compile")  # what a GPU's users do; a benchmark of CPUs has to ask
_PACKAGES = {"Lightning": "lightning", "Keras": "tensorflow"}


def missing(peers: Sequence[str]) -> list[str]:
    """The packages that these peers need and that are not installed."""
    return [_PACKAGES[peer] for peer in peers if peer in _PACKAGES and find_spec(_PACKAGES[peer]) is None]
