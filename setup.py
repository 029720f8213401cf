"""What pyproject.toml cannot say: sweeps/ is installed as raycifar/sweeps/, beside the packages that are found."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["raycifar", "raycifar.*"]), "raycifar.sweeps"],
    package_dir={"raycifar.sweeps": "sweeps"},
)
