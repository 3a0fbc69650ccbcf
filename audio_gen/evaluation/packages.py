"""The packages of the extra `evaluate`: which parts need them, and whether they are installed."""

from collections.abc import Iterable, Sequence
from importlib.util import find_spec

INSTALL = "pip install 'audio-gen[evaluate]'"
MODULES = {"scikit-learn": "sklearn"}
"""Modules that are not called like their packages."""
LISTENING = ("scikit-learn", "librosa")
"""Packages that all parts need which listen to generated clips."""


def missing(packages: Iterable[str]) -> list[str]:
    """Those of `packages` that are not installed."""
    return [package for package in packages if not there(package)]


def there(package: str) -> bool:
    """Whether `package` is installed; it is not imported."""
    try:
        return find_spec(MODULES.get(package, package)) is not None
    except ValueError:  # barred
        return False


def remedy(packages: Sequence[str]) -> str:
    """What is needed, and how to get it.

    >>> remedy(["pesq", "pystoi", "librosa"])
    "it needs pesq, pystoi and librosa; run: pip install 'audio-gen[evaluate]'"
    """
    return f"it needs {listed(packages)}; run: {INSTALL}"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    >>> listed(["pesq"]), listed(["pesq", "pystoi"])
    ('pesq', 'pesq and pystoi')
    """
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
