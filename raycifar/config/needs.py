"""What a setting needs to have an effect."""

from collections.abc import Callable

from raycifar.config.data import PREPARED
from raycifar.config.settings import TrialSettings

# A test of the trial, and that test in words.
Need = tuple[Callable[[TrialSettings], bool], str]
_MUON: Need = (lambda t: t.optimizer.name == "muon", 'optimizer.name = "muon"')
_SGD: Need = (lambda t: t.optimizer.name in ("sgd", "muon"), 'optimizer.name = "sgd" or "muon"')
_DECAY: Need = (lambda t: t.optimizer.weight_decay > 0, "optimizer.weight_decay above 0")
_PLATEAU: Need = (lambda t: t.schedule.name == "plateau", 'schedule.name = "plateau"')
_END: Need = (lambda t: t.schedule.name in ("linear", "cosine"), 'schedule.name = "linear" or "cosine"')
_MIXING: Need = (lambda t: t.augmentation.mixup + t.augmentation.cutmix > 0, "augmentation.mixup or .cutmix above 0")
_STOPPING: Need = (lambda t: t.early_stopping.patience > 0, "early_stopping.patience above 0")
_OWN: Need = (lambda t: t.data.is_prepared, "data.path, or a data set of torchvision")
NEEDS: dict[str, Need] = {
    "augmentation.mix_probability": _MIXING,
    "averaging.ema_recompute_batch_norm": (lambda t: t.model.batch_norm, "model.batch_norm = true"),
    "optimizer.muon_lr": _MUON,
    "optimizer.momentum": _SGD,
    "optimizer.nesterov": _SGD,
    "optimizer.head_decay_ratio": _DECAY,
    "optimizer.bias_decay_ratio": _DECAY,
    "optimizer.layer_decay": (lambda t: t.model.train != "head", 'model.train = "all", or from a block on'),
    "schedule.final_ratio": _END,
    "schedule.monitor": _PLATEAU,
    "schedule.factor": _PLATEAU,
    "schedule.patience": _PLATEAU,
    "schedule.min_lr": _PLATEAU,
    "early_stopping.monitor": _STOPPING,
    "early_stopping.min_delta": _STOPPING,
    "data.holdout_images": (lambda t: t.data.validation == "holdout", 'data.validation = "holdout"'),
    **{f"data.{key}": _OWN for key in PREPARED},
    "data.split_seed": (lambda t: t.data.draws_training, 'data.validation = "holdout" or data.train_images above 0'),
}


def idle(trial: TrialSettings) -> list[str]:
    """The settings that decide nothing in this trial, because of others."""
    return [key for key, (decides, _) in NEEDS.items() if not decides(trial)]
