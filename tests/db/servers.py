"""Real servers for tests: started on free loopback ports, killed and restarted.

Where their packages are missing, a root user of Debian gets them installed, and
whatever the packages start by themselves is stopped again. Elsewhere the tests are
skipped with the reason; continuous integration must have them.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGES: Final = {
    "postgres": "postgresql",
    "mariadbd": "mariadb-server",
    "pgbouncer": "pgbouncer",
}
_PLACES: Final = ("usr/lib/postgresql/*/bin", "usr/sbin", "usr/bin")


def program(name: str) -> str:
    """Return the path of a server's program, installed if it can be."""
    found = _find(name)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _install(PACKAGES[name])
        found = _find(name)
    if found is None:
        reason = f"{name} is not installed; on Debian it is in {PACKAGES[name]}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def _find(name: str) -> str | None:
    root = Path("/")
    places = [str(place) for pattern in _PLACES for place in root.glob(pattern)]
    return shutil.which(name, path=os.pathsep.join(places)) or shutil.which(name)


def _install(package: str) -> None:
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
    done = subprocess.run(install, env=environ, capture_output=True, check=False)
    if done.returncode != 0:
        update = ["apt-get", "update", "-qq"]
        subprocess.run(update, env=environ, capture_output=True, check=False)
        subprocess.run(install, env=environ, capture_output=True, check=False)
    service = package.removesuffix("-server")
    if shutil.which("service"):
        subprocess.run(["service", service, "stop"], capture_output=True, check=False)


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A server's process as an unprivileged user.

    Args:
        directory: Where its data lie.
        user: Who runs it where the tests are root, who may not.
    """

    user = "nobody"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._log = directory / "server.log"
        directory.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(directory, self.user)

    def start(self) -> None:
        """Start it and wait until it answers; a lock of a dead one may linger."""
        for _ in range(20):
            self.process = self._spawn()
            if self._becomes_ready():
                return
            self.kill()
            time.sleep(0.2)
        pytest.fail(f"{type(self).__name__} does not start:\n{self._log.read_text()}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal and wait for its end."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(how)
            process.wait(30)

    def kill(self) -> None:
        """Kill it as a crash would."""
        self.stop(signal.SIGKILL)

    def log(self) -> str:
        """Return what it has logged."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def run(self, command: Sequence[str]) -> None:
        """Run a command as the server's user and wait for it."""
        done = subprocess.run(
            [*self._as_user(), *command],
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def command(self) -> list[str]:
        """Return the command that runs it."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Tell whether it answers."""
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _becomes_ready(self) -> bool:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if self.process is None or self.process.poll() is not None:
                return False
            if self.is_ready():
                return True
            time.sleep(0.05)
        return False

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*self._as_user(), *self.command()],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _as_user(self) -> list[str]:
        if os.geteuid() != 0:
            return []
        # The signal at the parent's death: an interrupted test leaves nothing.
        user = f"--reuid={self.user}", f"--regid={self.user}"
        return ["setpriv", *user, "--clear-groups", "--pdeathsig=SIGKILL"]


class Postgres(Server):
    """PostgreSQL with one superuser `app`, a password for `guarded`, and trust."""

    user = "postgres"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._bin = Path(program("postgres")).resolve().parent
        self.data = directory / "data"
        make = [str(self._bin / "initdb"), "-D", str(self.data), "-U", "app"]
        self.run([*make, "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"])
        rules = self.data / "pg_hba.conf"
        guarded = "host all guarded 127.0.0.1/32 scram-sha-256\n"
        rules.write_text(guarded + rules.read_text(encoding="utf-8"), encoding="utf-8")

    def command(self) -> list[str]:
        """Return the command: durable enough for `kill -9`, talkative for tests."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.directory,
            "max_connections": 200,
            "max_prepared_transactions": 10,
            "log_statement": "all",
            "log_connections": "on",
            "deadlock_timeout": "700ms",
            "shared_buffers": "32MB",
            "synchronous_commit": "on",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self._bin / "postgres"), "-D", str(self.data), *options]

    def is_ready(self) -> bool:
        """Tell whether it takes connections, recovery included."""
        ready = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1"]
        ask = [*ready, "-p", str(self.port), "-d", "postgres"]
        done = subprocess.run(ask, check=False)
        return done.returncode == 0

    def sql(self, *statements: str, dbname: str = "postgres") -> str:
        """Run statements by the server's own client and return what they print."""
        psql = ["psql", "-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-U", "app"]
        given = [arg for text in statements for arg in ("-c", text)]
        return subprocess.run(
            [*psql, "-p", str(self.port), "-d", dbname, *given],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()


class PgBouncer(Server):
    """PgBouncer in transaction mode before a PostgreSQL."""

    user = "postgres"

    def __init__(self, directory: Path, postgres: Postgres) -> None:
        super().__init__(directory)
        self._program = program("pgbouncer")
        self._ini = directory / "pgbouncer.ini"
        users = directory / "users.txt"
        users.write_text('"app" ""\n', encoding="utf-8")
        self._ini.write_text(
            "[databases]\n"
            f"* = host=127.0.0.1 port={postgres.port}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\n"
            f"auth_type = trust\nauth_file = {users}\n"
            "pool_mode = transaction\ndefault_pool_size = 1\n"
            f"unix_socket_dir = {directory}\nlogfile = {directory}/bouncer.log\n",
            encoding="utf-8",
        )

    def command(self) -> list[str]:
        """Return the command."""
        return [self._program, str(self._ini)]


class MariaDB(Server):
    """MariaDB with a user `app` and two databases, `test` and `test2`."""

    user = "mysql"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._program = program("mariadbd")
        self.data = directory / "data"
        self.socket = directory / "s"
        install = str(shutil.which("mariadb-install-db"))
        plain = "--auth-root-authentication-method=normal"
        # Temporary tables of its own: another one that starts must not take them away.
        scratch = directory / "tmp"
        scratch.mkdir()
        scratch.chmod(0o777)
        places = [f"--datadir={self.data}", f"--tmpdir={scratch}"]
        self.run([install, "--no-defaults", *places, plain])
        self.start()
        self.sql(
            "CREATE USER app@'127.0.0.1' IDENTIFIED BY 'pw'",
            "GRANT ALL ON *.* TO app@'127.0.0.1'",
            "CREATE DATABASE IF NOT EXISTS test",
            "CREATE DATABASE test2",
        )

    def command(self) -> list[str]:
        """Return the command."""
        return [
            self._program,
            "--no-defaults",
            f"--datadir={self.data}",
            f"--socket={self.socket}",
            f"--pid-file={self.directory}/pid",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--max-connections=200",
            "--innodb-buffer-pool-size=32M",
            "--innodb-lock-wait-timeout=2",
        ]

    def is_ready(self) -> bool:
        """Tell whether it answers."""
        ask = ["mariadb-admin", "--no-defaults", f"--socket={self.socket}", "-uroot"]
        done = subprocess.run([*ask, "ping"], capture_output=True, check=False)
        return done.returncode == 0

    def sql(self, *statements: str) -> str:
        """Run statements by the server's own client and return what they print."""
        client = ["mariadb", "--no-defaults", f"--socket={self.socket}", "-uroot", "-N"]
        return subprocess.run(
            [*client, "-e", ";".join(statements)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
