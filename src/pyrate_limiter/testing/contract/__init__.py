"""The contract of a bucket, as tests: run them on a bucket of your own.

    from pyrate_limiter.testing.contract import BucketContract

    class TestMyBucket(BucketContract):
        def make_bucket(self, rates, **options):
            return MyBucket(rates, **options)  # an empty store of its own, made without I/O

They are collected by pytest and run by anyio's plugin, which comes with anyio, on each event loop that the
`anyio_backend` fixture names. What is about decisions runs on a manual clock; the rest on the bucket's own, in windows
of a twentieth of a second, and judges by stamps alone, so a slow machine changes nothing.

One file is one promise: each test in it says in its name what every bucket does.
"""

from .basis import ALGORITHMS
from .suites import BucketContract, InstantBucketContract, OneLoopContract

__all__ = ["ALGORITHMS", "BucketContract", "InstantBucketContract", "OneLoopContract"]
