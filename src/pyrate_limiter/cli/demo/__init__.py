"""`demo`: a page on which a limiter can be seen at work. It needs the extra ``[demo]``."""

from .command import demo

__all__ = ["demo"]
