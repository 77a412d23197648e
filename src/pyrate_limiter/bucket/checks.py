"""What a caller may ask for."""

from __future__ import annotations

from ..algorithms import Algorithm
from ..decisions import FOREVER


def valid_weight(weight: int) -> int:
    """Return a weight that is an int and not negative.

    Raises:
        TypeError: it is not an int (a bool is none either).
        ValueError: it is negative.
    """
    if type(weight) is not int and (isinstance(weight, bool) or not isinstance(weight, int)):
        raise TypeError(f"weight must be an int, 0 or more, not {weight!r}")
    if weight < 0:
        raise ValueError(f"weight must be 0 or more, not {weight}; to give back, use refund()")
    return weight


def valid_algorithm(algorithm: object) -> type[Algorithm]:
    """Return a class of algorithms.

    Raises:
        TypeError: it is something else, such as its name or an object of it.
    """
    if not isinstance(algorithm, type) or not issubclass(algorithm, Algorithm):
        raise TypeError(f"algorithm must be a class such as GCRA, not {algorithm!r}")
    return algorithm


def valid_name(name: str) -> str:
    """Return a name, or the label that it is where names share a budget.

    Raises:
        TypeError: it is not a str.
    """
    if not isinstance(name, str):
        raise TypeError(f"a name must be a str, not {name!r}; for so many units, write weight={name!r}")
    return name


def valid_key(key: str) -> str:
    """Return a key that is a str and encodes to UTF-8.

    Raises:
        TypeError: it is not a str.
        ValueError: it holds a lone surrogate.
    """
    if not isinstance(key, str):
        return valid_name(key)  # which says what is wrong
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"the name {key!r} does not encode to UTF-8: {error.reason}") from None
    return key


def as_patience(seconds: float) -> int:
    """Return a time limit in microseconds.

    Raises:
        TypeError: it is not a number.
        ValueError: it is negative or not a number.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"a timeout must be a number of seconds, not {seconds!r}")
    if not seconds >= 0:
        raise ValueError(f"a timeout must be 0 or more seconds, not {seconds!r}")
    return min(FOREVER, round(min(seconds, FOREVER) * 1e6))
