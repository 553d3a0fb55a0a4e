"""Puts tools/ and configs/ into the wheel, below the package; everything else is in pyproject.toml.

Setuptools finds packages or takes a list of them from pyproject.toml, not both.
"""

from setuptools import find_packages, setup

OURS = {"mmact_tiny.tools": "tools", "mmact_tiny.configs": "configs"}
setup(packages=[*find_packages(include=["mmact_tiny*"]), *OURS], package_dir=OURS)
