"""Tell whether a statement provably does nothing but read.

By what its text says: it begins as a query, has no word that writes or locks, and
calls no function but those that are listed here. Whatever is not known may do anything:
a function may count, lock, notify or write.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from resilience_instrument.integrations._sql import Dialect

RETRY_READS: Final = "RESILIENCE_DATABASE_RETRY_READS"
"""`1` where reads are to be sent again that a server in trouble could not serve."""

# PostgreSQL 15, appendix A: insufficient resources and system errors, after which the
# connection is as good as before. A full disk (53100) will be full at the next try.
_CURABLE: Final = ("53", "58")
_FULL: Final = "53100"
_STATE: Final = 5

_QUERY: Final = re.compile(r"[\s(]*(?:SELECT|SHOW|VALUES|TABLE)\b", re.IGNORECASE)
_MORE: Final = re.compile(
    r"\b(?:INSERT|UPDATE|DELETE|MERGE|REPLACE|INTO|CALL|FOR|LOCK|PROCEDURE)\b|:=",
    re.IGNORECASE,
)
_CALLED: Final = re.compile(r"([\w$.']+)\s*\(")

# Words of the grammar that may stand before a parenthesis, and functions of which
# every server makes nothing but a value.
_WORDS: Final = """
    ALL AND ANY AS BETWEEN BY CASE DISTINCT ELSE EXCEPT EXISTS FILTER FROM GROUP HAVING
    IN INTERSECT IS JOIN LATERAL LIKE LIMIT NOT OFFSET ON OR ORDER OVER PARTITION SELECT
    SETS SOME THEN UNION USING VALUES WHEN WHERE WITHIN CHAR DECIMAL NUMERIC VARCHAR
    ABS AVG CAST CEIL CEILING CHAR_LENGTH COALESCE CONCAT CONCAT_WS COUNT CURRENT_DATE
    CURRENT_TIMESTAMP DATE DATE_TRUNC DENSE_RANK EXTRACT FIRST_VALUE FLOOR GREATEST
    IFNULL LAG LAST_VALUE LEAD LEAST LEFT LENGTH LOWER LTRIM MAX MIN MOD NOW NULLIF
    POSITION RANK RIGHT ROUND ROW_NUMBER RTRIM SUBSTR SUBSTRING SUM TRIM UPPER
"""
_HARMLESS: Final = frozenset(_WORDS.split())


def is_only_read(sql: str, dialect: Dialect) -> bool:
    """Tell whether one statement reads and does nothing else."""
    if "/*!" in sql or "/*M!" in sql:
        # No comments: MySQL and MariaDB execute them.
        return False
    blanked, _ = dialect.blanked(sql)
    if not _QUERY.match(blanked) or _MORE.search(blanked):
        return False
    return all(name.upper() in _HARMLESS for name in _CALLED.findall(blanked))


def may_repeat(sql: object, code: str, dialect: Dialect) -> bool:
    """Tell whether a failed statement may be sent again because it only reads.

    Args:
        sql: Its text, None where it must not be sent again.
        code: The SQLSTATE with which it failed.
        dialect: The server's.
    """
    if os.environ.get(RETRY_READS) != "1" or not isinstance(sql, str):
        return False
    if len(code) != _STATE or code == _FULL or not code.startswith(_CURABLE):
        return False
    return is_only_read(sql, dialect)
