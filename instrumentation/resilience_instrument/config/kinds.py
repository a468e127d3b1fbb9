"""What a setting may be: how a value is read, described, shown and put in a schema.

A kind reads what TOML gives and what an environment variable says. What it cannot
use it refuses with `ValueError`; the message of the loader then says `wanted`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Mapping

Value: TypeAlias = object
Schema: TypeAlias = "Mapping[str, object]"

OFF: Final = "off"
"""The word for "no limit" and "not this rule", which TOML has no value for."""

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PORT: Final = 65535


class Kind(Protocol):
    """One kind of setting."""

    @property
    def wanted(self) -> str:
        """What would do, after the word "use"."""
        ...

    def read(self, value: object) -> Value:
        """Return what a file's `value` means.

        Raises:
            ValueError: It cannot be used.
        """
        ...

    def parse(self, text: str) -> Value:
        """Return what the text of a variable means; raises as `read`."""
        ...

    def schema(self) -> Schema:
        """Return the JSON Schema of the values that a file may have."""
        ...

    def show(self, value: Value) -> str:
        """Return a value as a file would have it."""
        ...


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError  # noqa: TRY004 - one error for whatever cannot be used
    if math.isnan(value):
        raise ValueError
    return float(value)


def _parsed(text: str) -> float:
    text = text.strip()
    if "_" in text:
        raise ValueError
    return float(text)


@final
class Number:
    """A number from `least` to `most`."""

    __slots__ = ("least", "most")

    def __init__(self, least: float, most: float) -> None:
        self.least = least
        self.most = most

    @property
    def wanted(self) -> str:
        """What would do."""
        return f"a number from {self.least:g} to {self.most:g}"

    def read(self, value: object) -> float:
        """Read a number."""
        number = _number(value)
        if not self.least <= number <= self.most:
            raise ValueError
        return number

    def parse(self, text: str) -> float:
        """Read a number in a variable."""
        return self.read(_parsed(text))

    def schema(self) -> Schema:
        """Return the schema of a number."""
        return {"type": "number", "minimum": self.least, "maximum": self.most}

    def show(self, value: Value) -> str:
        """Return the number without needless zeros."""
        return f"{value:g}"


@final
class Seconds:
    """A duration: a number of seconds, or a text such as `"500ms"` or `"5m"`.

    Args:
        zero: Whether it may be nothing.
    """

    __slots__ = ("zero",)

    MOST: Final = 1e6

    def __init__(self, *, zero: bool = False) -> None:
        self.zero = zero

    @property
    def wanted(self) -> str:
        """What would do."""
        least = "from 0" if self.zero else "above 0"
        return f'a number of seconds {least} or a text such as "500ms" or "5m"'

    def read(self, value: object) -> float:
        """Read a duration."""
        seconds = _duration(value) if isinstance(value, str) else _number(value)
        if seconds < 0 or seconds > self.MOST or (seconds == 0 and not self.zero):
            raise ValueError
        return seconds

    def parse(self, text: str) -> float:
        """Read a duration in a variable, which may be a bare number."""
        text = text.strip()
        if text.rstrip("mhs") != text:
            return self.read(text)
        return self.read(_parsed(text))

    def schema(self) -> Schema:
        """Return the schema of a duration."""
        least = "minimum" if self.zero else "exclusiveMinimum"
        return {
            "anyOf": [
                {"type": "number", least: 0, "maximum": self.MOST},
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"},
            ]
        }

    def show(self, value: Value) -> str:
        """Return the seconds."""
        return f"{value:g}"


@final
class OrOff:
    """What another kind takes, or the word `off`.

    Args:
        kind: The other kind.
    """

    __slots__ = ("_kind",)

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    @property
    def wanted(self) -> str:
        """What would do."""
        return f'{self._kind.wanted}, or "{OFF}"'

    def read(self, value: object) -> Value:
        """Read the word, or what the other kind reads."""
        return None if value == OFF else self._kind.read(value)

    def parse(self, text: str) -> Value:
        """Read the word in a variable, or what the other kind reads there."""
        return None if text.strip().lower() == OFF else self._kind.parse(text)

    def schema(self) -> Schema:
        """Return the schema of both."""
        return {"anyOf": [{"const": OFF}, self._kind.schema()]}

    def show(self, value: Value) -> str:
        """Return the word, or what the other kind shows."""
        return f'"{OFF}"' if value is None else self._kind.show(value)


def _duration(text: str) -> float:
    digits = text.rstrip("mhs")
    unit = text[len(digits) :]
    if unit not in _UNITS or not digits.replace(".", "", 1).isdecimal():
        raise ValueError
    return float(digits) * _UNITS[unit]


@final
class Whole:
    """A whole number from `least` to `most`."""

    __slots__ = ("least", "most")

    def __init__(self, least: int, most: int) -> None:
        self.least = least
        self.most = most

    @property
    def wanted(self) -> str:
        """What would do."""
        return f"a whole number from {self.least} to {self.most}"

    def read(self, value: object) -> int:
        """Read a whole number."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError  # noqa: TRY004 - as above
        if not self.least <= value <= self.most:
            raise ValueError
        return value

    def parse(self, text: str) -> int:
        """Read a whole number in a variable."""
        text = text.strip()
        if not (text.isascii() and text.isdecimal()):
            raise ValueError
        return self.read(int(text))

    def schema(self) -> Schema:
        """Return the schema of a whole number."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}

    def show(self, value: Value) -> str:
        """Return its digits."""
        return str(value)


@final
class Flag:
    """Yes or no."""

    __slots__ = ()

    wanted = "true or false"

    def read(self, value: object) -> bool:
        """Read a truth value."""
        if not isinstance(value, bool):
            raise ValueError  # noqa: TRY004 - as above
        return value

    def parse(self, text: str) -> bool:
        """Read one of the words that people use for yes and no."""
        word = text.strip().lower()
        if word in {"1", "true", "on", "yes"}:
            return True
        if word in {"0", "false", "off", "no"}:
            return False
        raise ValueError

    def schema(self) -> Schema:
        """Return the schema of a truth value."""
        return {"type": "boolean"}

    def show(self, value: Value) -> str:
        """Return it as TOML has it."""
        return "true" if value else "false"


@final
class Choice:
    """One of a few words."""

    __slots__ = ("words",)

    def __init__(self, *words: str) -> None:
        self.words = words

    @property
    def wanted(self) -> str:
        """What would do."""
        *others, last = (f'"{word}"' for word in self.words)
        return f"{', '.join(others)} or {last}"

    def read(self, value: object) -> str:
        """Read a word."""
        if not isinstance(value, str) or value not in self.words:
            raise ValueError
        return value

    def parse(self, text: str) -> str:
        """Read a word in a variable."""
        return self.read(text.strip().lower())

    def schema(self) -> Schema:
        """Return the schema of the words."""
        return {"enum": list(self.words)}

    def show(self, value: Value) -> str:
        """Return the word as TOML has it."""
        return f'"{value}"'


@final
class Text:
    """A text on one line or several, of `least` characters or more.

    Args:
        wanted: What it has to be.
        least: Fewest characters.
    """

    __slots__ = ("least", "wanted")

    def __init__(self, wanted: str, least: int = 1) -> None:
        self.wanted = wanted
        self.least = least

    def read(self, value: object) -> str:
        """Read a text."""
        if not isinstance(value, str) or len(value) < self.least:
            raise ValueError
        return value

    def parse(self, text: str) -> str:
        """Read a text in a variable."""
        return self.read(text.strip())

    def schema(self) -> Schema:
        """Return the schema of a text."""
        return {"type": "string", "minLength": self.least}

    def show(self, value: Value) -> str:
        """Return it in quotes."""
        return f'"{value}"'


@final
class Texts:
    """A list of texts; in a variable they are parted by commas.

    Args:
        wanted: What it has to be.
        single: Whether one text may stand for a list of one.
    """

    __slots__ = ("single", "wanted")

    def __init__(self, wanted: str, *, single: bool = False) -> None:
        self.wanted = wanted
        self.single = single

    def read(self, value: object) -> tuple[str, ...]:
        """Read a list of texts."""
        items = [value] if self.single and isinstance(value, str) else value
        if not isinstance(items, list):
            raise ValueError  # noqa: TRY004 - as above
        if not all(isinstance(item, str) and item for item in items):
            raise ValueError
        return tuple(items)

    def parse(self, text: str) -> tuple[str, ...]:
        """Read what stands between commas."""
        return tuple(part.strip() for part in text.split(",") if part.strip())

    def schema(self) -> Schema:
        """Return the schema of a list."""
        texts = {"type": "array", "items": {"type": "string", "minLength": 1}}
        if not self.single:
            return texts
        return {"anyOf": [{"type": "string", "minLength": 1}, texts]}

    def show(self, value: Value) -> str:
        """Return it as TOML has it."""
        items = value if isinstance(value, tuple) else ()
        return "[" + ", ".join(f'"{item}"' for item in items) + "]"


@final
class Names:
    """A set of texts; in a variable they are parted by commas.

    Args:
        wanted: What it has to be.
    """

    __slots__ = ("_texts", "wanted")

    def __init__(self, wanted: str) -> None:
        self.wanted = wanted
        self._texts = Texts(wanted)

    def read(self, value: object) -> frozenset[str]:
        """Read a list of texts."""
        return frozenset(self._texts.read(value))

    def parse(self, text: str) -> frozenset[str]:
        """Read what stands between commas."""
        return frozenset(self._texts.parse(text))

    def schema(self) -> Schema:
        """Return the schema of a list."""
        return self._texts.schema()

    def show(self, value: Value) -> str:
        """Return it as TOML has it, sorted."""
        names = value if isinstance(value, frozenset) else ()
        return self._texts.show(tuple(sorted(map(str, names))))


@final
class Statuses:
    """A set of HTTP statuses; in a variable they are parted by commas."""

    __slots__ = ()

    wanted = "a list of statuses such as [502, 503]"

    def read(self, value: object) -> frozenset[int]:
        """Read a list of statuses."""
        if not isinstance(value, list):
            raise ValueError  # noqa: TRY004 - as above
        status = Whole(100, 599)
        return frozenset(status.read(item) for item in value)

    def parse(self, text: str) -> frozenset[int]:
        """Read what stands between commas."""
        return self.read([int(part) for part in text.split(",") if part.strip()])

    def schema(self) -> Schema:
        """Return the schema of a list of statuses."""
        return {"type": "array", "items": Whole(100, 599).schema()}

    def show(self, value: Value) -> str:
        """Return it as TOML has it, sorted."""
        statuses = value if isinstance(value, frozenset) else ()
        return f"[{', '.join(map(str, sorted(statuses)))}]"


@final
class Ports:
    """A port, a range of ports, or 0 for none."""

    __slots__ = ()

    wanted = "a port such as 9469, a range such as 9469-9479, or 0 to serve no metrics"

    def read(self, value: object) -> range:
        """Read a number, or a text with one or two."""
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise ValueError  # noqa: TRY004 - as above
        return self.parse(value)

    def parse(self, text: str) -> range:
        """Read one port or two."""
        first, _, last = text.partition("-")
        low, high = int(first), int(last or first)
        if low == high == 0:
            return range(0)
        if not 0 < low <= high <= _PORT:
            raise ValueError
        return range(low, high + 1)

    def schema(self) -> Schema:
        """Return the schema of ports."""
        return {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": _PORT},
                {"type": "string", "pattern": "^[0-9]+(-[0-9]+)?$"},
            ]
        }

    def show(self, value: Value) -> str:
        """Return the range as a file would have it."""
        if not isinstance(value, range) or not value:
            return "0"
        if len(value) == 1:
            return str(value[0])
        return f'"{value[0]}-{value[-1]}"'


@final
class Headers:
    """A table of texts."""

    __slots__ = ()

    wanted = 'a table of texts, such as { Content-Type = "application/json" }'

    def read(self, value: object) -> tuple[tuple[str, str], ...]:
        """Read names and values."""
        if not isinstance(value, dict):
            raise ValueError  # noqa: TRY004 - as above
        if not all(
            isinstance(text, str) and "\n" not in text for text in value.values()
        ):
            raise ValueError
        return tuple(value.items())

    def parse(self, text: str) -> tuple[tuple[str, str], ...]:
        """Refuse: no variable holds a table."""
        raise ValueError(text)

    def schema(self) -> Schema:
        """Return the schema of a table of texts."""
        return {"type": "object", "additionalProperties": {"type": "string"}}

    def show(self, value: Value) -> str:
        """Return it as TOML has it."""
        pairs = value if isinstance(value, tuple) else ()
        return "{ " + ", ".join(f'"{n}" = "{v}"' for n, v in pairs) + " }"
