"""Read just enough of an SQL text to name it: its commands and their targets.

The name becomes a label and a span's name, so no literal may ever be part of it.
Two passes of regular expressions do it: the first blanks literals and comments by
the rules of the dialect, the second finds commands and tables. No parser: a
statement that is too odd is named by its first command alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST: Final = 255
"""Characters of a summary at most, cut between two words (semantic conventions)."""

READ: Final = 2048
"""Characters of a statement that are read. The names stand at the beginning."""

CACHED: Final = 2000
"""Statements whose reading is remembered, for each dialect."""

UNKNOWN: Final = "OTHER"
"""The summary of a text that begins with no command that is known."""

REPEATABLE: Final = frozenset(
    {"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "WITH", "VALUES"}
)
"""Commands that a server can roll back as a whole. A procedure may commit inside."""

ENDING: Final = frozenset({"COMMIT", "ROLLBACK", "END", "ABORT"})
"""Commands that may always pass: what is under way must be able to end."""

_COMMENT: Final = r"/\*(?:[^*/]|\*(?!/)|/(?!\*)|/\*.*?\*/)*(?:\*/|\Z)"
_PLAIN_STRING: Final = r"'(?:[^']|'')*(?:'|\Z)"
_ESCAPED_STRING: Final = r"'(?:[^'\\]|\\.|'')*(?:'|\\?\Z)"
_QUOTED_NAME: Final = r'"(?:[^"]|"")*(?:"|\Z)'
_BACKTICKED_NAME: Final = r"`(?:[^`]|``)*(?:`|\Z)"
_BRACKETED_NAME: Final = r"\[[^\]]*(?:\]|\Z)"


def _blank(names: str, *patterns: str) -> re.Pattern[str]:
    return re.compile("|".join((f"(?P<name>{names})", *patterns)), re.DOTALL)


@final
class Dialect:
    """How one kind of server writes literals, comments and names.

    Args:
        name: Its name by the semantic conventions, such as `postgresql`.
        blank: Matches a literal, a comment or, in group `name`, a quoted name.
        string_tables: Whether a string can stand where a table's name does.
    """

    __slots__ = ("_blank", "_cache", "_string_tables", "name")

    def __init__(
        self, name: str, blank: re.Pattern[str], *, string_tables: bool = False
    ) -> None:
        self.name = name
        self._blank = blank
        self._string_tables = string_tables
        self._cache: dict[str | bytes, Statement] = {}

    def read(self, sql: str | bytes) -> Statement:
        """Return what is known of a statement; remembered by its beginning."""
        # A text of 10 MB must not even be hashed.
        key = sql if len(sql) <= READ else sql[:READ]
        found = self._cache.get(key)
        if found is None:
            found = self._parse(key if isinstance(key, str) else key.decode("latin-1"))
            if len(self._cache) >= CACHED:
                self._cache.clear()
            self._cache[key] = found
        return found

    def is_single(self, sql: str) -> bool:
        """Tell whether a text is one statement; reads all of it."""
        blanked, _ = self.blanked(sql)
        return ";" not in blanked.rstrip().rstrip(";")

    def blanked(self, sql: str) -> tuple[str, list[str]]:
        """Return a text with whatever is quoted replaced by `'0'`, `'1'` and so on.

        The list has what was quoted: a name as it is, a literal as "".
        """
        quoted: list[str] = []

        def replace(match: re.Match[str]) -> str:
            text = match[0]
            shown = match.lastgroup == "name" or self._string_tables
            if text.startswith(("--", "/*", "#")):
                return " "
            quoted.append(text if shown else "")
            return f" '{len(quoted) - 1}' "

        return self._blank.sub(replace, sql), quoted

    def _parse(self, sql: str) -> Statement:
        blanked, quoted = self.blanked(sql)
        words = list(_words(blanked, quoted))
        first = _FIRST.match(blanked)
        verb = first[1].upper() if first else ""
        if verb not in _VERBS:
            return Statement(UNKNOWN, UNKNOWN, unlimited=False, sets_limit=False)
        return Statement(
            _joined(words) or verb,
            verb,
            unlimited=verb in _UNLIMITED or _waits(blanked),
            sets_limit=verb == "SET" and _LIMITS.search(blanked) is not None,
        )


class Statement(NamedTuple):
    """What is known of a statement without its literals.

    Attributes:
        summary: Its commands and their targets, such as `SELECT users`.
        verb: Its first command, in capitals.
        unlimited: Whether it may rightly run for long: schema changes, bulk loads,
            maintenance, locks that are waited for.
        sets_limit: Whether it sets the session's own limit for statements.
    """

    summary: str
    verb: str
    unlimited: bool
    sets_limit: bool


POSTGRESQL: Final = Dialect(
    "postgresql",
    _blank(
        _QUOTED_NAME,
        rf"[eE]{_ESCAPED_STRING}",
        _PLAIN_STRING,
        r"\$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)",
        r"--[^\n]*",
        _COMMENT,
    ),
)
"""A backslash escapes in `E'...'` only; `$tag$...$tag$` is a string."""

MYSQL: Final = Dialect(
    "mysql",
    _blank(
        _BACKTICKED_NAME,
        _ESCAPED_STRING,
        _ESCAPED_STRING.replace("'", '"'),
        r"--(?=\s|\Z)[^\n]*",
        r"#[^\n]*",
        _COMMENT,
    ),
)
"""A backslash escapes, and `"..."` is a string. MariaDB is no different here."""

SQLITE: Final = Dialect(
    "sqlite",
    _blank(
        f"{_QUOTED_NAME}|{_BACKTICKED_NAME}|{_BRACKETED_NAME}",
        _PLAIN_STRING,
        r"--[^\n]*",
        _COMMENT,
    ),
    string_tables=True,
)
"""No backslash escapes; a string may stand for a table's name."""

_NAME: Final = r"(?:[^\W\d][\w$]*|'\d+')"
_TABLE: Final = rf"{_NAME}(?:\s*\.\s*{_NAME})*"
_NO_ALIAS: Final = (
    r"(?!(?:WHERE|JOIN|INNER|LEFT|RIGHT|FULL|CROSS|NATURAL|ON|USING|GROUP|ORDER|HAVING"
    r"|LIMIT|OFFSET|FETCH|UNION|EXCEPT|INTERSECT|WINDOW|FOR|SET|RETURNING|VALUES"
    r"|SELECT|STRAIGHT_JOIN|USE|FORCE|IGNORE|PARTITION|TABLESAMPLE|DEFAULT)\b)"
)
_NO_TABLE: Final = (
    r"(?!(?:SELECT|OUTFILE|DUMPFILE|STDIN|STDOUT|ONLY|LATERAL"
    r"|VALUES|UNNEST)\b)"
)
_ITEM: Final = rf"{_NO_TABLE}{_TABLE}(?:\s+(?:AS\s+)?{_NO_ALIAS}{_NAME})?"
_ITEMS: Final = rf"\s*(?:ONLY\s+)?(?P<tables>{_ITEM}(?:\s*,\s*{_ITEM})*)"
_IF: Final = r"(?:IF\s+(?:NOT\s+)?EXISTS\s+)?"
_KIND: Final = (
    r"(?:(?:OR\s+REPLACE|TEMP|TEMPORARY|UNLOGGED|GLOBAL|LOCAL|UNIQUE|MATERIALIZED)\s+)*"
    r"(?P<kind>TABLE|INDEX|VIEW|DATABASE|SCHEMA|SEQUENCE|FUNCTION|PROCEDURE|TRIGGER"
    r"|EXTENSION|TYPE|ROLE|USER)\b(?:\s+CONCURRENTLY)?"
)

_FIRST: Final = re.compile(r"[\s({]*([A-Za-z]+)")

# Searched in capitals: without case it is three times as fast.
_KEYWORDS: Final = re.compile(
    r"(?<![\w$.])(?=[SIDMRUFJ])"
    r"(?:SELECT|INSERT|DELETE|MERGE|REPLACE|UPDATE|FROM|JOIN|INTO)(?![\w$])|;"
)
# What comes before a word that looks like a command or a table and is none.
_NO_COMMAND: Final = re.compile(r"\b(?:FOR|ON|KEY|DO)\s+\Z")
_NO_FROM: Final = re.compile(
    r"(?:\bDISTINCT\s+|\b(?:EXTRACT|SUBSTRING|TRIM|OVERLAY)\s*\([^()]*)\Z"
)
_BEFORE: Final = 64

_TARGETS: Final = re.compile(_ITEMS, re.IGNORECASE)
_UPDATED: Final = re.compile(rf"(?:LOW_PRIORITY\s+|IGNORE\s+)*{_ITEMS}", re.IGNORECASE)
_CHANGED: Final = re.compile(
    rf"\s*(?:{_KIND}\s+)?{_IF}(?P<tables>{_TABLE})?", re.IGNORECASE
)
_ACTED: Final = re.compile(
    rf"\s*(?:TABLE\s+)?(?P<tables>{_NO_TABLE}{_TABLE})?", re.IGNORECASE
)
_LISTED: Final = re.compile(rf"(?:\A|,)\s*({_TABLE})")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_VERBS: Final = _set(
    "SELECT INSERT UPDATE DELETE MERGE REPLACE WITH VALUES TABLE CREATE ALTER DROP"
    " TRUNCATE CALL EXEC EXECUTE COPY PRAGMA VACUUM ANALYZE REINDEX LOCK UNLOCK"
    " DESCRIBE DESC EXPLAIN BEGIN START COMMIT END ROLLBACK ABORT SAVEPOINT RELEASE"
    " SET RESET SHOW USE DECLARE FETCH MOVE CLOSE OPEN PREPARE DEALLOCATE LISTEN"
    " UNLISTEN NOTIFY GRANT REVOKE COMMENT CLUSTER REFRESH CHECKPOINT DISCARD DO LOAD"
    " OPTIMIZE REPAIR CHECK FLUSH KILL HANDLER ATTACH DETACH IMPORT SECURITY XA"
    " REASSIGN IDENTIFY TIMELINE BASE"
)
_INTRODUCERS: Final = frozenset({"FROM", "JOIN", "INTO"})
_ANYWHERE: Final = _set("SELECT INSERT DELETE MERGE REPLACE UPDATE")
# WITH only introduces; what it introduces is named.
_SHOWN: Final = _VERBS - _ANYWHERE - {"WITH"}
_CHANGES: Final = _set("CREATE ALTER DROP TRUNCATE")
_ACTS: Final = _set(
    "CALL EXEC EXECUTE COPY PRAGMA VACUUM ANALYZE REINDEX LOCK DESCRIBE"
)
_UNLIMITED: Final = _set(
    "CREATE ALTER DROP TRUNCATE COMMENT GRANT REVOKE VACUUM ANALYZE REINDEX CLUSTER"
    " REFRESH CHECKPOINT COPY LOAD LOCK LISTEN OPTIMIZE REPAIR CHECK IMPORT REASSIGN"
    " DO"
)
_LOCKING: Final = ("pg_advisory_lock", "pg_advisory_xact_lock", "get_lock(")
_LIMITS: Final = re.compile(
    r"\b(?:statement_timeout|max_execution_time|max_statement_time)\b", re.IGNORECASE
)


def _waits(blanked: str) -> bool:
    """Tell whether a statement waits for a lock that somebody holds on purpose."""
    lower = blanked.lower()
    return any(name in lower for name in _LOCKING)


def _words(blanked: str, quoted: list[str]) -> Iterator[str]:
    """Yield commands and targets in their order."""
    # One sign for each sign, whatever they are, so that places agree.
    capitals = blanked.encode("ascii", "replace").decode("ascii").upper()
    yield from _start(blanked, 0, quoted)
    for match in _KEYWORDS.finditer(capitals):
        word, begin, end = match[0], match.start(), match.end()
        before = capitals[max(0, begin - _BEFORE) : begin]
        if word == ";":
            yield from _start(blanked, end, quoted)
        elif word in _INTRODUCERS:
            if not (word == "FROM" and _NO_FROM.search(before)):
                yield from _targets(_TARGETS, blanked, end, quoted)
        elif _is_command(word, before, capitals[end : end + _BEFORE].lstrip()):
            yield blanked[begin:end]
            if word == "UPDATE":
                yield from _targets(_UPDATED, blanked, end, quoted)


def _is_command(word: str, before: str, after: str) -> bool:
    if word == "REPLACE":
        return after.startswith("INTO")
    if word == "SELECT":
        return True
    return not after.startswith("(") and not _NO_COMMAND.search(before)


def _start(blanked: str, place: int, quoted: list[str]) -> Iterator[str]:
    """Yield the command that a statement begins with, and what it is about."""
    first = _FIRST.match(blanked, place)
    verb = first[1].upper() if first else ""
    if first is None or verb not in _SHOWN:
        return
    yield first[1]
    pattern = _CHANGED if verb in _CHANGES else _ACTED
    if verb in _CHANGES or verb in _ACTS:
        yield from _targets(pattern, blanked, first.end(), quoted)


def _targets(
    pattern: re.Pattern[str], blanked: str, place: int, quoted: list[str]
) -> Iterator[str]:
    match = pattern.match(blanked, place)
    if match is not None:
        groups = match.groupdict("")
        if groups.get("kind"):
            yield groups["kind"]
        yield from _names(groups["tables"], quoted)


def _names(listed: str, quoted: list[str]) -> Iterator[str]:
    for match in _LISTED.finditer(listed):
        parts = [part.strip() for part in match[1].split(".")]
        names = [quoted[int(p.strip("'"))] if "'" in p else p for p in parts]
        if all(names):
            yield ".".join(names)


def _joined(words: list[str]) -> str:
    """Join words up to the longest summary, without cutting one."""
    summary = ""
    for word in words:
        longer = f"{summary} {word}" if summary else word
        if len(longer) > LONGEST:
            break
        summary = longer
    return summary
