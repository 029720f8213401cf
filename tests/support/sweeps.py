"""Sweeps of small VGG16s on the sample images."""

from raycifar.config.sweep import SweepSpec

DATA = {"train_images": 40, "holdout_images": 20, "test_images": 20}


def sweep_of(**trials):
    """Each keyword is a trial's settings; two epochs of two steps unless these say otherwise."""
    base = {"epochs": 2, "batch_size": 20, "seed": 1, "model": {"weights": "random"}, "data": DATA}
    tables = [{**base, "name": name, "arm": name, **settings} for name, settings in trials.items()]
    return SweepSpec.model_validate({"name": "tiny", "trials": tables})
