"""The plain host, whichever it is, with its CAM refined by the mean affinity of its layers at inference.

The baselines of AReAM's Table 1 (MCT-R, Conf-R), where ``inference.layers`` is ``all``.
"""

from aream.methods._plain import Config, PlainHost, build, needs_entropy, resolve

__all__ = ["Config", "PlainHost", "build", "needs_entropy", "resolve"]
