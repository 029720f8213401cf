"""Test answers made up by a stated model, whose truth is known; they stand for trainings, they are none.

A trial of seed s gets image i right where u_i + g_s + e_si > 0: u_i says how easy the image is, g_s how good the seed's
network is, e_si is what two networks of one recipe disagree on, N(0, 1). u ~ N(m, TAU^2) and g ~ N(0, gamma^2), so that
every recipe gets ACCURACY of all images right. Recipes that are unlike have images of their own that are easy: their u
are correlated. The accuracy and the correlation of errors are those of real pairs (results/vgg-h100).
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtri, owens_t

ACCURACY = 0.9334
RHO = 0.874  # of u + e between two networks of one recipe: they disagree on 5.1 % of the images
TAU = math.sqrt(RHO / (1 - RHO))
Z = float(ndtri(ACCURACY))
DENSITY = math.exp(-Z * Z / 2) / math.sqrt(2 * math.pi)


def both_right(rho: float) -> float:
    """The share of images that two networks get right, each ACCURACY of them, whose u + e have this correlation."""
    return ACCURACY - 2 * float(owens_t(Z, math.sqrt((1 - rho) / (1 + rho))))


DISAGREEMENT = 2 * (ACCURACY - both_right(RHO))  # share of images that just one of two networks gets right


@cache
def correlation(apart: float) -> float:
    """Of the u of two recipes whose chances p on an image are apart by E(p_a - p_b)^2; 1 for one recipe twice."""
    if not apart:
        return 1.0
    together = both_right(RHO) - apart / 2
    return float(brentq(lambda c: both_right(c * RHO) - together, 0.0, 1.0))


def gamma(sd: float) -> float:
    """The spread of g that makes accuracies over all images spread by `sd`, a fraction."""
    return sd * math.sqrt(1 + TAU * TAU) / DENSITY


def observed_sd(sd: float, images: int) -> float:
    """Of accuracies on so many images: what networks disagree on adds to the seeds' own spread."""
    return math.sqrt(sd * sd + DISAGREEMENT / 2 / images)


def simulate(
    rng: np.random.Generator, trials: Sequence[int], images: int, sds: Sequence[float], apart: float = 0.0
) -> list[NDArray[np.bool_]]:
    """Which images (n, N) arms of so many trials get right, each with its own spread of seeds.

    `apart` is as in `correlation`, of any two arms.
    """
    shared = math.sqrt(correlation(apart))
    common = rng.standard_normal(images, np.float32)
    arms = []
    for n, sd in zip(trials, sds, strict=True):
        own = rng.standard_normal(images, np.float32) if apart else np.float32(0)
        u = TAU * (shared * common + math.sqrt(1 - shared * shared) * own)
        g = gamma(sd) * rng.standard_normal((n, 1), np.float32)
        m = Z * math.sqrt(1 + TAU * TAU + gamma(sd) ** 2)
        arms.append(rng.standard_normal((n, images), np.float32) > -(m + u + g))
    return arms
