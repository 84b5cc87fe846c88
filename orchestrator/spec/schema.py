"""JSON schema of the sweep file, made from the classes that read it: what an editor completes and checks while typing.

It knows every key, type, default and fixed choice. What goes by several keys together, such as ``where``, is checked
when the file is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union

from aream import discover, methods
from aream.config import Component, is_config
from aream.errors import ConfigError
from orchestrator.spec.axes import KINDS, SEGMENTATION_SECTIONS, TRAINING_SECTIONS, VARIANT_SECTIONS
from orchestrator.spec.field_docs import field_docs, numeric_range
from orchestrator.spec.settings import Settings
from workers import analysis
from workers.trial import SegmentationConfig, TrialConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]
NUMBERS: dict[type, str] = {int: "integer", float: "number"}
PLAIN: dict[type, Schema] = {str: {"type": "string"}, bool: {"type": "boolean"}, type(None): {"type": "null"}, **{
    kind: {"type": name} for kind, name in NUMBERS.items()
}}  # fmt: skip


def sweep_schema() -> Schema:
    """The schema of a whole file."""
    made = _Schemas()
    settings, trial = made.properties(Settings), made.properties(TrialConfig)
    del trial["seed"]  # the sweep's ``seeds`` are all of them
    sections = (*TRAINING_SECTIONS, *VARIANT_SECTIONS)
    segmentation = made.properties(SegmentationConfig)
    segmentation["axes"] = _axes(SEGMENTATION_SECTIONS)
    properties = {
        **settings,
        **trial,
        "axes": _axes(sections),
        "where": {"type": "array", "items": {"type": "string"}, "description": "Constraints that every point meets."},
        "segmentation": {
            "anyOf": [_section(segmentation, []), {"type": "null"}],
            "description": "A segmenter trained on the best labels; left out: the sweep ends with the labels.",
        },
    }
    return {
        "$schema": DIALECT,
        "title": "A sweep",
        **_section(properties, made.required(Settings)),
        "$defs": dict(sorted(made.definitions.items())),
    }


def _section(properties: Mapping[str, Schema], required: list[str]) -> Schema:
    found: Schema = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return found | ({"required": required} if required else {})


def _axes(sections: tuple[str, ...]) -> Schema:
    forms = [{"type": "array", "minItems": 1}]
    for kind in KINDS:
        listed = kind in ("grid", "choice")
        content: Schema = {"type": "array", "minItems": 1} if listed else {
            "type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2
        }  # fmt: skip
        forms.append(_section({kind: content, "when": {"type": "string"}}, [kind]))
    return {
        "type": "object",
        "description": "What is tried: dotted key -> its values, or a range for a search.",
        "patternProperties": {rf"^({'|'.join(sections)})(\.|$)": {"anyOf": forms}},
        "additionalProperties": False,
    }


class _Schemas:
    """Schemas of configuration classes, each once."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}

    def properties(self, cls: type) -> dict[str, Schema]:
        kinds, docs = typing.get_type_hints(cls), field_docs(cls)
        made = {}
        for field in dataclasses.fields(cls):
            schema = self._field(cls, field, kinds[field.name])
            if field.name in docs:
                schema = schema | {"description": docs[field.name]}
            default = _default(field)
            made[field.name] = schema if default is dataclasses.MISSING else schema | {"default": _as_given(default)}
        return made

    def required(self, cls: type) -> list[str]:
        return [field.name for field in dataclasses.fields(cls) if _default(field) is dataclasses.MISSING]

    def _field(self, cls: type, field: dataclasses.Field[Any], kind: Any) -> Schema:
        if "component" in field.metadata:
            default = _default(field)
            return self._component(field.metadata["component"], default.name if is_config(default) else None)
        if "components" in field.metadata:
            return {"type": "array", "items": self._one_of(_configs(field.metadata["components"]), None)}
        schema = self._of(kind)
        numbers = [option for option in (kind, *typing.get_args(kind)) if option in NUMBERS]
        bounds = numeric_range(cls, field.name, whole=numbers == [int]) if numbers else {}
        return _bounded(schema, bounds)

    def _component(self, package: str, usual: str | None) -> Schema:
        registry = importlib.import_module(package)
        named = {name: discover.load(registry, name).Config for name in discover.names(registry)}
        kind = package.rpartition(".")[2]
        return self._one_of({f"{kind}.{name}": config for name, config in named.items()}, usual)

    def _one_of(self, configs: Mapping[str, type], usual: str | None) -> Schema:
        """A name, or a section with a name and the settings of that module.

        Args:
            configs: by kind and name, such as ``methods.aream``.
            usual: what a section without a name means; None: it needs one.
        """
        names = [key.rpartition(".")[2] for key, cls in configs.items() if not self.required(cls)]
        options: list[Schema] = [{"enum": names}] if names else []
        for key, cls in configs.items():
            name = key.rpartition(".")[2]
            if key not in self.definitions:
                self.definitions[key] = {}  # a method may hold methods
                properties = {"name": {"const": name}, **self.properties(cls)}
                self.definitions[key] = _section(properties, self.required(cls)) | _described(cls)
            here: Schema = {"$ref": f"#/$defs/{key}"}
            options.append(here if name == usual else here | {"required": ["name"]})
        return {"anyOf": options}

    def _of(self, kind: Any) -> Schema:
        if kind in PLAIN:
            return dict(PLAIN[kind])
        if kind is Any:
            return {}
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            return self._class(kind)
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is Literal:
            return {"enum": list(arguments)}
        if origin in (Union, types.UnionType):
            return {"anyOf": [self._of(option) for option in arguments]}
        if origin is tuple and len(arguments) == 2 and arguments[1] is ...:
            return {"type": "array", "items": self._of(arguments[0])}
        if origin is tuple:
            count = len(arguments)
            return {"type": "array", "prefixItems": [self._of(one) for one in arguments],
                    "minItems": count, "maxItems": count}  # fmt: skip
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return {"type": "object", "additionalProperties": self._of(arguments[1])}
        raise TypeError(f"no JSON schema for {kind!r}")

    def _class(self, cls: type) -> Schema:
        key = f"{cls.__module__}.{cls.__qualname__}"
        if key not in self.definitions:
            self.definitions[key] = {}
            self.definitions[key] = _section(self.properties(cls), self.required(cls)) | _described(cls)
        return {"$ref": f"#/$defs/{key}"}


def _described(cls: type) -> Schema:
    """The first paragraph of a class that has a docstring of its own."""
    text = (cls.__doc__ or "").partition("\n\n")[0]
    return {} if not text or text.startswith(f"{cls.__name__}(") else {"description": " ".join(text.split())}


def _configs(config_of: Callable[[str], type]) -> dict[str, type]:
    """Every name that a list of components takes, behind its kind, and its configuration class."""
    found = {}
    for kind, names in (("methods", discover.names(methods)), ("analyses", analysis.names())):
        for name in names:
            with contextlib.suppress(ConfigError):
                found[f"{kind}.{name}"] = config_of(name)
    return found


def _bounded(schema: Schema, bounds: Mapping[str, float]) -> Schema:
    """Bounds at the part that is a number."""
    if not bounds:
        return schema
    if "anyOf" in schema:
        return {"anyOf": [_bounded(option, bounds) for option in schema["anyOf"]]}
    return {**schema, **bounds} if schema.get("type") in NUMBERS.values() else schema


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _as_given(value: Any) -> Any:
    """A default as a sweep file would say it."""
    if isinstance(value, Component):
        return {"name": value.name, **_as_given(value.config)}
    if is_config(value):
        return {field.name: _as_given(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [_as_given(item) for item in value]
    return {key: _as_given(item) for key, item in value.items()} if isinstance(value, Mapping) else value
