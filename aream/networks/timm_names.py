"""timm's names of models, with or without the tag of their published weights: ``vit_tiny_patch16_224.augreg_in21k``."""

from __future__ import annotations

import timm

from aream.errors import ConfigError


def architecture(name: str) -> str:
    """The name without its tag."""
    return name.partition(".")[0]


def check_tag(key: str, name: str) -> None:
    """Refuse a tag that the architecture, which timm knows, has no weights of.

    Raises:
        ConfigError: listing the tags that there are.
    """
    plain, _, tag = name.partition(".")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{plain}.*")]
    if tag and tag not in tags:
        known = ", ".join(tags) or "none"
        raise ConfigError(f"{key}: timm has no weights {tag!r} of {plain}; its tags are {known}")
