"""Puts tools/, configs/ and a clip into the wheel; the rest is in pyproject.toml.

Setuptools finds packages or takes a list of them from pyproject.toml, not both.
"""

from setuptools import find_namespace_packages, setup

OURS = {
    "mmact_tiny.tools": "tools",
    "mmact_tiny.configs": "configs",
    "mmact_tiny.clips": "data/tiny/train",  # check_env decodes it
}
setup(packages=[*find_namespace_packages(include=["mmact_tiny*"]), *OURS], package_dir=OURS)
