"""Buckets: a rule, a store that applies it atomically, and the verbs that every bucket has."""

from .abstract import NOT_AT_ALL, AbstractBucket, BucketStatistics
from .checks import as_patience, valid_key, valid_weight
from .instant import NOWHERE, InPlace, InstantBucket, in_place

__all__ = [
    "NOT_AT_ALL",
    "NOWHERE",
    "AbstractBucket",
    "BucketStatistics",
    "InPlace",
    "InstantBucket",
    "as_patience",
    "in_place",
    "valid_key",
    "valid_weight",
]
