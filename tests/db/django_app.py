"""A small Django project in one file: acts for each case and prints what it saw.

    resilience-instrument python django_app.py DRIVER PORT METRICS_PORT

Nothing in it knows of the agent but `circuit`, which asks what is behind an error.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable

    from db.proxy import Proxy

DRIVER, PORT, METRICS_PORT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
IS_SQLITE = DRIVER == "sqlite3"
IS_MYSQL = DRIVER in {"pymysql", "mysqlclient"}
UPDATE = "UPDATE `shop_thing`" if IS_MYSQL else 'UPDATE "shop_thing"'

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]
if DRIVER == "psycopg2":
    # Django would take psycopg 3 where both are installed.
    sys.modules["psycopg"] = None  # type: ignore[assignment]
if DRIVER == "pymysql":
    import pymysql

    pymysql.install_as_MySQLdb()

import django  # noqa: E402 - the driver has to be settled before
from django.conf import settings  # noqa: E402


def databases(port: int) -> dict[str, Any]:
    """Return the database by way of `port`, and the same one without a detour."""
    shared: dict[str, Any] = {"HOST": "127.0.0.1", "CONN_MAX_AGE": 600}
    if IS_SQLITE:
        name = os.path.join(tempfile.mkdtemp(), "shop.db")  # noqa: PTH118 - a text
        shared |= {"ENGINE": "django.db.backends.sqlite3", "NAME": name}
        shared["OPTIONS"] = {"timeout": 0}
    elif IS_MYSQL:
        shared |= {"ENGINE": "django.db.backends.mysql", "NAME": "test"}
        shared |= {"USER": "app", "PASSWORD": "pw"}
    else:
        shared |= {"ENGINE": "django.db.backends.postgresql", "NAME": "postgres"}
        shared["USER"] = "app"
    return {"default": {**shared, "PORT": port}, "other": {**shared, "PORT": PORT}}


def set_up(port: int) -> None:
    """Configure the project."""
    settings.configure(
        DATABASES=databases(port), DEFAULT_AUTO_FIELD="django.db.models.BigAutoField"
    )
    django.setup()


def counted(name: str, **labels: str) -> float:
    """Return the sum of the samples that have these labels."""
    connection = http.client.HTTPConnection("127.0.0.1", METRICS_PORT, timeout=10)
    begun = time.monotonic()
    while True:
        # On a busy machine the thread that serves it begins later than the calls.
        try:
            connection.request("GET", "/metrics")
            break
        except ConnectionRefusedError:
            if time.monotonic() - begun > 10:
                raise
            time.sleep(0.1)
    text = connection.getresponse().read().decode()
    connection.close()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def failure(act: Callable[[], object]) -> tuple[Any, float]:
    """Return the error that an act raises, and the seconds it took."""
    begun = time.monotonic()
    try:
        act()
    except Exception as error:
        return error, time.monotonic() - begun
    return None, time.monotonic() - begun


def is_operational(error: Exception) -> bool:
    """Tell whether Django's own class would catch it."""
    from django.db import OperationalError

    return isinstance(error, OperationalError)


def queries(model: Any) -> dict[str, Any]:
    """Write and read by the ORM, aggregates and server-side iteration included."""
    from django.db.models import Sum

    model.objects.all().delete()
    model.objects.create(name="one", n=1, facts={"a": [1, 2]})
    model.objects.bulk_create([model(name=f"many {n}", n=n) for n in range(2, 6)])
    model.objects.filter(n=5).update(n=50)
    found = model.objects.get(name="one")
    return {
        "facts": found.facts,
        "sum": model.objects.aggregate(total=Sum("n"))["total"],
        "names": [each.name for each in model.objects.order_by("id").iterator(2)],
        "counted": counted("api_request_total", endpoint=UPDATE),
    }


def savepoints(model: Any) -> dict[str, Any]:
    """Undo an inner block and keep the outer one; undo a whole block."""
    from django.db import IntegrityError, transaction

    model.objects.all().delete()
    with transaction.atomic():
        model.objects.create(id=1, name="outer", n=1)
        try:
            with transaction.atomic():
                model.objects.create(id=2, name="inner", n=2)
                model.objects.create(id=1, name="twice", n=3)
        except IntegrityError:
            pass
        model.objects.create(id=4, name="after", n=4)

    def give_up() -> None:
        with transaction.atomic():
            model.objects.create(id=5, name="undone", n=5)
            raise KeyError

    error, _ = failure(give_up)
    return {
        "names": list(model.objects.order_by("id").values_list("name", flat=True)),
        "error": type(error).__name__,
    }


def contention(model: Any) -> dict[str, Any]:
    """Lose against another transaction inside a block: it is the app's affair."""
    from django.db import connection, transaction

    model.objects.all().delete()
    model.objects.create(id=1, name="row", n=1)
    skipped = counted("resilience_retry_skipped_total", reason="transaction")

    def lose() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            if IS_MYSQL:
                cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
            elif not IS_SQLITE:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            list(model.objects.all())
            if not IS_SQLITE:
                model.objects.create(id=2, name="lost", n=2)
            win()

    def win() -> None:
        other = model.objects.using("other")
        if not (IS_MYSQL or IS_SQLITE):
            other.filter(id=1).update(n=9)
            model.objects.filter(id=1).update(n=5)
            return
        with transaction.atomic(using="other"):
            other.filter(id=1).update(n=9)
            model.objects.filter(id=1).update(n=5)

    error, _ = failure(lose)
    skipped_now = counted("resilience_retry_skipped_total", reason="transaction")
    return {
        "is_operational": is_operational(error),
        "skipped": skipped_now - skipped,
        "retried": counted("api_retry_total", endpoint=UPDATE),
        "names": list(model.objects.order_by("id").values_list("name", flat=True)),
    }


def limit(model: Any, proxy: Proxy) -> dict[str, Any]:
    """End what sleeps and what is frozen; the connection is not kept if it is dead."""
    from django.db import close_old_connections, connection

    sleep = "SELECT SLEEP(60)" if IS_MYSQL else "SELECT pg_sleep(60)"

    def run(sql: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql)

    slow, slow_seconds = failure(lambda: run(sleep))
    close_old_connections()
    after_slow = model.objects.count()
    proxy.mode = "frozen"
    frozen, frozen_seconds = failure(lambda: run("SELECT 1"))
    proxy.mode = "pass"
    close_old_connections()
    return {
        "is_operational": [is_operational(slow), is_operational(frozen)],
        "seconds": [slow_seconds, frozen_seconds],
        "counts": [after_slow, model.objects.count()],
        "timeouts": counted("api_timeout_total"),
    }


def circuit(model: Any, proxy: Proxy) -> dict[str, Any]:
    """Meet an open circuit, with a connection that is kept and with none."""
    from django.db import close_old_connections, connection

    from resilience_instrument import CircuitBreakerOpenError

    model.objects.count()
    connection.close()
    proxy.mode = "refuse"
    refused = [failure(connection.ensure_connection)[0] for _ in range(3)]
    proxy.mode = "pass"
    accepted = proxy.accepted
    errors, seconds = [], 0.0
    for _ in range(10):
        error, waited = failure(model.objects.count)
        errors.append(error)
        seconds += waited
        close_old_connections()
    opened = proxy.accepted - accepted
    begun = time.monotonic()
    while failure(model.objects.count)[0] and time.monotonic() - begun < 20:
        time.sleep(0.2)
    return {
        "refused": all(is_operational(error) for error in refused),
        "rejected": all(is_operational(error) for error in errors),
        "causes": all(
            isinstance(error and error.__cause__, CircuitBreakerOpenError)
            for error in errors
        ),
        "opened": opened,
        "seconds": seconds,
        "back": model.objects.count(),
    }


def main() -> None:
    """Act, and print what was seen as one line of JSON."""
    from db.proxy import Proxy

    with Proxy(PORT) as proxy:
        set_up(proxy.port)
        from django.db import connection, models

        class Thing(models.Model):  # type: ignore[misc]  # noqa: DJ008 - never shown
            name = models.CharField(max_length=50)
            n = models.IntegerField()
            facts = models.JSONField(null=True)

            class Meta:
                app_label = "shop"

        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS shop_thing")
        with connection.schema_editor() as editor:
            editor.create_model(Thing)
        seen = {each.__name__: each(Thing) for each in (queries, savepoints)}
        seen["contention"] = contention(Thing)
        if not IS_SQLITE:
            seen["limit"] = limit(Thing, proxy)
            seen["circuit"] = circuit(Thing, proxy)
        seen["faults"] = {"count": counted("resilience_agent_error_total")}
        module = type(connection.connection).__module__
        seen["driver"] = {"module": module.partition(".")[0]}
        connection.close()
    print(json.dumps(seen))  # noqa: T201 - its output is what it is for


if __name__ == "__main__":
    main()
