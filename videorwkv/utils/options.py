"""Configuration dataclasses from JSON and from `key=value` text, typed by their own fields.

One reader for both, so the same mistake gets the same message: what, got, allowed.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, Union

from videorwkv.errors import ConfigError, did_you_mean
from videorwkv.utils.values import brief

D = TypeVar("D")
_WORDS = {"true": True, "yes": True, "on": True, "1": True}
_WORDS |= {"false": False, "no": False, "off": False, "0": False}


def dataclass_to_dict(value: Any) -> dict[str, Any]:
    """A dataclass as JSON-ready values: nested ones as objects, tuples as lists."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"{value!r} is no dataclass instance")
    return {f.name: _to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}


def _to_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclass_to_dict(value)
    if isinstance(value, tuple | list):
        return [_to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _to_json(item) for key, item in value.items()}
    return value


def dataclass_from_dict(cls: type[D], values: Mapping[str, Any], *, where: str = "") -> D:
    """Build `cls` from JSON values; keys that are left out keep their default.

    Raises:
        ConfigError: a key is unknown, or a value is of another type.
    """
    where = where or cls.__name__
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: got {values!r}; allowed: an object of options.")
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise ConfigError(
                f"{where}: unknown option {brief(key)}. {did_you_mean(str(key)[:80], hints)}"
            )
    typed = {
        key: _convert(value, hints[key], f"{where}.{key}", text=False)
        for key, value in values.items()
    }
    try:
        return cls(**typed)
    except TypeError as error:  # an option without a default is missing
        raise ConfigError(f"{where}: {error}.") from None


def override(config: D, assignments: Sequence[str]) -> D:
    """A copy of `config` with `["lr=1e-3", "model.width=96"]` set.

    All assignments to one nested configuration are set at once: `image_size` and `patch_size`
    may have to change together.

    Raises:
        ConfigError: an assignment without `=`, an unknown option, or a value not allowed there.
    """
    tree: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"Option {assignment!r} is not of the form key=value, such as lr=1e-3 or "
                "model.width=96."
            )
        node = tree
        *parents, last = key.strip().split(".")
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise ConfigError(f"Option {key!r}: {parent!r} was already given as a value.")
            node = child
        node[last] = text.strip()
    return _override(config, tree, "")


def _override(config: D, tree: Mapping[str, Any], prefix: str) -> D:
    hints = typing.get_type_hints(type(config))
    changed: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if key not in hints:
            raise ConfigError(f"Unknown option {name!r}. {did_you_mean(key, hints)}")
        current = getattr(config, key)
        if isinstance(value, dict):
            if not dataclasses.is_dataclass(current):
                raise ConfigError(
                    f"Option {name!r} has no parts: write {name}=value, not "
                    f"{name}.{next(iter(value))}."
                )
            changed[key] = _override(current, value, f"{name}.")
        elif dataclasses.is_dataclass(current):
            parts = ", ".join(f.name for f in dataclasses.fields(current))
            raise ConfigError(
                f"Option {name!r} has parts: write {name}.PART=value. Parts: {parts}."
            )
        else:
            changed[key] = _convert(value, hints[key], name, text=True)
    return dataclasses.replace(config, **changed)  # type: ignore[type-var]


def _convert(value: Any, kind: Any, name: str, *, text: bool) -> Any:
    """`value` as the type `kind` asks for; `text` says that it comes from a command line."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None or (text and str(value).lower() == "none"):
            if type(None) in arguments:
                return None
            raise ConfigError(f"{name}: got {brief(value)}; allowed: {_describe(kind, text=text)}.")
        others = [argument for argument in arguments if argument is not type(None)]
        for argument in others[:-1]:
            try:
                return _convert(value, argument, name, text=text)
            except ConfigError:
                continue
        return _convert(value, others[-1], name, text=text)
    if origin is Literal:
        for allowed in arguments:
            if value == allowed or (text and value == str(allowed)):
                return allowed
        raise ConfigError(
            f"{name}: got {brief(value)}. "
            f"{did_you_mean(str(value)[:80], [str(a) for a in arguments])}"
        )
    if origin is tuple:
        return _convert_tuple(value, kind, name, text=text)
    if origin is Mapping:
        return _convert_mapping(value, kind, name)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if isinstance(value, kind):
            return value
        return dataclass_from_dict(kind, value, where=name)
    return _convert_plain(value, kind, name, text=text)


def _convert_tuple(value: Any, kind: Any, name: str, *, text: bool) -> tuple[Any, ...]:
    arguments = typing.get_args(kind)
    if text:
        value = [part for part in value.strip("()[] ").replace(" ", "").split(",") if part]
        if len(value) == 1 and "x" in value[0]:  # views=2x3
            value = value[0].split("x")
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{name}: got {brief(value)}; allowed: {_describe(kind, text=text)}.")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        kinds = [arguments[0]] * len(value)
    else:
        kinds = list(arguments)
    if len(kinds) != len(value):
        raise ConfigError(
            f"{name}: got {len(value)} values ({', '.join(map(str, value[:9]))[:200]}); "
            f"allowed: {_describe(kind, text=text)}."
        )
    return tuple(_convert(v, k, name, text=text) for v, k in zip(value, kinds, strict=True))


def _convert_mapping(value: Any, kind: Any, name: str) -> dict[str, Any]:
    _, wanted = typing.get_args(kind)
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{name}: got {brief(value)}; allowed: {_describe(kind, text=False)}.")
    return {
        key: _convert(item, wanted, f"{name}.{key[:80]}", text=False) for key, item in value.items()
    }


def _convert_plain(value: Any, kind: Any, name: str, *, text: bool) -> Any:
    try:
        if kind is bool:
            return _WORDS[value.lower()] if text else _exactly(value, bool)
        if kind is int:
            return _in_range(int(value) if text else _exactly(value, int))
        if kind is float:
            value = float(value if text else _exactly(value, int, float))
        if kind is str:
            return _exactly(value, str)
    except (KeyError, ValueError, OverflowError):
        raise ConfigError(
            f"{name}: got {brief(value)}; allowed: {_describe(kind, text=text)}."
        ) from None
    if kind is float and not math.isfinite(value):  # Python's JSON has NaN and Infinity, too
        raise ConfigError(f"{name}: got {value}; allowed: a finite number.")
    return value


def _exactly(value: Any, *kinds: type) -> Any:
    # bool is an int to Python; `workers: true` is a mistake all the same.
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError
    return value


def _in_range(number: int) -> int:
    # Beyond 64 bits no library takes a whole number.
    if not -(2**63) <= number < 2**63:
        raise ValueError
    return number


def _describe(kind: Any, *, text: bool) -> str:
    """A type as a user would say it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(argument, text=text) for argument in arguments)
    if origin is Literal:
        return ", ".join(str(argument) for argument in arguments)
    if origin is tuple:
        values = "values separated by commas" if text else "values in a list"
        each = _describe(arguments[0], text=text)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return f"{values}, each {each}"
        if len(set(arguments)) == 1:
            return f"{len(arguments)} {values}, each {each}"
        return f"{len(arguments)} {values}"
    if origin is Mapping:
        return f"an object of names and values, each {_describe(arguments[1], text=text)}"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return "none" if kind is type(None) else names.get(kind, getattr(kind, "__name__", str(kind)))
