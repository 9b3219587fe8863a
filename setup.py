"""Packages of otdist; the metadata is in pyproject.toml.

The arithmetic lives in the top-level folder ``kernels/`` and installs as ``otdist.kernels``, never as ``kernels``
(that name is somebody else's on PyPI). In a checkout the link ``otdist/kernels -> ../kernels`` serves the same modules.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["otdist", "otdist.*"]), "otdist.kernels"],
    package_dir={"otdist.kernels": "kernels"},
    package_data={"otdist": ["py.typed"], "otdist.kernels": ["*.cu", "*.cuh"]},
)
