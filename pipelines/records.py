"""Dataclasses as JSON and back, every value checked: what is read from disk is not trusted."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, Self

from hashing.errors import IndexFormatError


class Record:
    """Base of the dataclasses that stand in an index as JSON.

    Reading refuses missing fields and wrong types, naming file and field, and passes over fields
    it does not know. Field types may be int, float, str, bool, Any, records, lists, dicts of
    strings to one of these, and any of them ``| None``.

    >>> @dataclasses.dataclass
    ... class Point(Record):
    ...     x: float
    ...     name: str | None = None
    >>> Point.from_json({"x": 1}, "p.json").to_json()
    {'x': 1, 'name': None}
    >>> Point.from_json({"x": "1"}, "p.json")
    Traceback (most recent call last):
    ...
    hashing.errors.IndexFormatError: p.json: x is str, not float; run `hashbeam verify` on the index
    """

    def to_json(self) -> dict[str, Any]:
        """This record as plain dicts, lists and scalars."""
        kind: Any = type(self)
        return {name: _encode(getattr(self, name)) for name in _fields(kind)}

    @classmethod
    def from_json(cls, data: Any, where: str) -> Self:
        """The record that `to_json` gave; `where` is the file, for messages.

        Raises: IndexFormatError where a field is missing or has another type.
        """
        if not isinstance(data, Mapping):
            raise damaged(f"{where}: {type(data).__name__} in place of {cls.__name__}")
        values, own = {}, typing.cast(Any, cls)
        for name, (kind, optional) in _fields(own).items():
            if name in data:
                values[name] = _decode(kind, data[name], where, name)
            elif not optional:
                raise damaged(f"{where}: {name} is missing")
        return cls(**values)


def damaged(problem: str) -> IndexFormatError:
    """`problem` as an error that names the remedy."""
    return IndexFormatError(f"{problem}; run `hashbeam verify` on the index")


@functools.cache
def _fields(cls: type[Any]) -> dict[str, tuple[Any, bool]]:
    hints = typing.get_type_hints(cls)
    missing = dataclasses.MISSING
    return {
        field.name: (
            hints[field.name],
            field.default is not missing or field.default_factory is not missing,
        )
        for field in dataclasses.fields(cls)
    }


def _encode(value: Any) -> Any:
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return value


def _decode(kind: Any, value: Any, where: str, name: str) -> Any:
    if hasattr(kind, "from_json"):
        return kind.from_json(value, where)
    if kind is Any or (kind is float and type(value) is int) or type(value) is kind:
        return value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        if value is None and type(None) in arguments:
            return None
        choices = [choice for choice in arguments if choice is not type(None)]
        if len(choices) == 1:
            return _decode(choices[0], value, where, name)
        if type(value) in choices:
            return value
    elif origin is list and isinstance(value, list):
        if arguments[0] is int and set(map(type, value)) <= {int}:
            return value  # thousands of counts: one pass in C
        return [_decode(arguments[0], item, where, name) for item in value]
    elif origin is dict and isinstance(value, dict):
        return {key: _decode(arguments[1], item, where, name) for key, item in value.items()}
    expected = getattr(kind, "__name__", None) if origin is None else str(kind)
    raise damaged(f"{where}: {name} is {type(value).__name__}, not {expected}")
