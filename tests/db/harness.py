"""Drives each driver through one interface, so that one contract fits all."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
from typing import Any

ON, OFF = True, False
POSTGRESQL = {"host": "127.0.0.1", "user": "app", "dbname": "postgres"}
MYSQL = {"host": "127.0.0.1", "user": "app", "password": "pw", "database": "test"}


class Driver:
    """One driver as an app uses it, by the DB-API."""

    library = ""
    server = "postgresql"
    scheme = "postgresql"
    database = "postgres"
    timeout_name = "connect_timeout"
    is_async = False
    survives_a_freeze = False
    pings_first = False

    def __init__(self) -> None:
        self.module: Any = importlib.import_module(self.library)
        self._opened: list[Any] = []

    def open(self, port: int, **options: Any) -> Any:
        """Connect, and close at the end of the test whatever it does."""
        connection = self.connect(port, **options)
        self._opened.append(connection)
        return connection

    @property
    def error(self) -> type[Exception]:
        """What an app catches when a server is not there."""
        found: type[Exception] = self.module.OperationalError
        return found

    @property
    def any_error(self) -> type[Exception] | tuple[type[Exception], ...]:
        """What an app catches for anything that a server says."""
        found: type[Exception] = self.module.Error
        return found

    def connect(self, port: int, **options: Any) -> Any:
        """Connect to a server on this machine."""
        return self.module.connect(port=port, **{**POSTGRESQL, **options})

    def execute(self, connection: Any, sql: str) -> list[Any]:
        """Run a statement and return its rows."""
        cursor = connection.cursor()
        try:
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.description else []
        finally:
            cursor.close()

    def begin(self, connection: Any) -> None:
        """Leave the mode in which each statement is a transaction."""
        connection.autocommit = False

    def autocommit(self, connection: Any) -> None:
        """Make each statement a transaction."""
        connection.autocommit = True

    def commit(self, connection: Any) -> None:
        """End the transaction for good."""
        connection.commit()

    def rollback(self, connection: Any) -> None:
        """Undo the transaction."""
        connection.rollback()

    def close(self, connection: Any) -> None:
        """Close the connection."""
        connection.close()

    def is_closed(self, connection: Any) -> bool:
        """Tell whether the connection can no longer be used."""
        return bool(connection.closed)

    def finish(self) -> None:
        """Give back what is left open."""
        for connection in self._opened:
            with contextlib.suppress(Exception):
                self.close(connection)


class Psycopg2(Driver):
    library = "psycopg2"


class Psycopg(Driver):
    library = "psycopg"


class Awaited(Driver):
    """A driver for asyncio, each step run on a loop of the harness."""

    is_async = True

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()

    def run(self, coroutine: Any) -> Any:
        """Run one step."""
        return self.loop.run_until_complete(coroutine)

    def finish(self) -> None:
        """Close what is left open, and the loop."""
        super().finish()
        self.run(self.loop.shutdown_asyncgens())
        self.loop.close()


class AsyncPsycopg(Awaited):
    library = "psycopg"

    def connect(self, port: int, **options: Any) -> Any:
        given = {**POSTGRESQL, **options}
        return self.run(self.module.AsyncConnection.connect(port=port, **given))

    def execute(self, connection: Any, sql: str) -> list[Any]:
        return list(self.run(self._execute(connection, sql)))

    async def _execute(self, connection: Any, sql: str) -> list[Any]:
        cursor = await connection.execute(sql)
        return list(await cursor.fetchall()) if cursor.description else []

    def begin(self, connection: Any) -> None:
        self.run(connection.set_autocommit(OFF))

    def autocommit(self, connection: Any) -> None:
        self.run(connection.set_autocommit(ON))

    def commit(self, connection: Any) -> None:
        self.run(connection.commit())

    def rollback(self, connection: Any) -> None:
        self.run(connection.rollback())

    def close(self, connection: Any) -> None:
        self.run(connection.close())


class Asyncpg(Awaited):
    library = "asyncpg"
    survives_a_freeze = True  # once the server has taken its request to cancel
    timeout_name = "timeout"

    @property
    def error(self) -> type[Exception]:
        found: type[Exception] = self.module.InterfaceError
        return found

    @property
    def any_error(self) -> tuple[type[Exception], ...]:
        errors = (self.module.PostgresError, self.module.InterfaceError)
        return (*errors, OSError, TimeoutError)

    def connect(self, port: int, **options: Any) -> Any:
        given = {**POSTGRESQL, **options}
        given["database"] = given.pop("dbname")
        return self.run(self.module.connect(port=port, **given))

    def execute(self, connection: Any, sql: str) -> list[Any]:
        rows = self.run(connection.fetch(sql))
        return [tuple(row) for row in rows]

    def begin(self, connection: Any) -> None:
        self.run(connection.execute("BEGIN"))

    def autocommit(self, connection: Any) -> None:
        """Need nothing: it has no other mode."""

    def commit(self, connection: Any) -> None:
        self.run(connection.execute("COMMIT"))

    def rollback(self, connection: Any) -> None:
        self.run(connection.execute("ROLLBACK"))

    def close(self, connection: Any) -> None:
        self.run(connection.close())

    def is_closed(self, connection: Any) -> bool:
        return bool(connection.is_closed())


class PyMySQL(Driver):
    library = "pymysql"
    server = "mysql"
    scheme = "mysql"
    database = "test"

    def connect(self, port: int, **options: Any) -> Any:
        return self.module.connect(port=port, **{**MYSQL, **options})

    def begin(self, connection: Any) -> None:
        connection.autocommit(OFF)

    def autocommit(self, connection: Any) -> None:
        connection.autocommit(ON)

    def is_closed(self, connection: Any) -> bool:
        return not connection.open


class MysqlConnector(PyMySQL):
    library = "mysql.connector"
    timeout_name = "connection_timeout"
    pings_first = True  # before each cursor, which then is what fails

    @property
    def error(self) -> type[Exception]:
        found: type[Exception] = self.module.Error
        return found

    def connect(self, port: int, **options: Any) -> Any:
        return self.module.connect(port=port, use_pure=True, **{**MYSQL, **options})

    def begin(self, connection: Any) -> None:
        connection.autocommit = False

    def autocommit(self, connection: Any) -> None:
        connection.autocommit = True

    def is_closed(self, connection: Any) -> bool:
        return not connection.is_connected()


class MysqlConnectorC(MysqlConnector):
    """The same by its C extension."""

    def connect(self, port: int, **options: Any) -> Any:
        return self.module.connect(port=port, use_pure=False, **{**MYSQL, **options})


class Mysqlclient(PyMySQL):
    library = "MySQLdb"

    def is_closed(self, connection: Any) -> bool:
        try:
            connection.ping()
        except self.module.Error:
            return True
        return False


class Aiomysql(Awaited):
    library = "aiomysql"
    server = "mysql"
    scheme = "mysql"
    database = "test"

    def connect(self, port: int, **options: Any) -> Any:
        given = {**MYSQL, **options}
        given["db"] = given.pop("database")
        return self.run(self.module.connect(port=port, **given))

    def execute(self, connection: Any, sql: str) -> list[Any]:
        return list(self.run(self._execute(connection, sql)))

    async def _execute(self, connection: Any, sql: str) -> list[Any]:
        cursor = await connection.cursor()
        await cursor.execute(sql)
        return list(await cursor.fetchall()) if cursor.description else []

    def begin(self, connection: Any) -> None:
        self.run(connection.autocommit(OFF))

    def autocommit(self, connection: Any) -> None:
        self.run(connection.autocommit(ON))

    def commit(self, connection: Any) -> None:
        self.run(connection.commit())

    def rollback(self, connection: Any) -> None:
        self.run(connection.rollback())

    def close(self, connection: Any) -> None:
        # At once: the polite way waits for a server that may be frozen.
        connection.close()
        self.run(asyncio.sleep(0))


DRIVERS: dict[str, type[Driver]] = {
    "psycopg2": Psycopg2,
    "psycopg": Psycopg,
    "psycopg-async": AsyncPsycopg,
    "asyncpg": Asyncpg,
    "pymysql": PyMySQL,
    "mysql.connector": MysqlConnector,
    "aiomysql": Aiomysql,
}
# Its wheels may want a later OpenSSL than there is: then there is the pure one only.
if importlib.import_module("mysql.connector").HAVE_CEXT:
    DRIVERS["mysql.connector-c"] = MysqlConnectorC
# It is built where it is installed, which takes a compiler and a client library.
if importlib.util.find_spec("MySQLdb"):
    DRIVERS["mysqlclient"] = Mysqlclient
