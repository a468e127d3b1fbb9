"""urllib3 behind the interface of the contract."""

from __future__ import annotations

from typing import Any

import urllib3

from integrations.harness import Answer, Errors, Traits, Wish


class Urllib3:
    library = "urllib3"
    traits = Traits(rewinds=True, asked="")
    base_error: Errors = urllib3.exceptions.HTTPError
    connection_error: type[Exception] = urllib3.exceptions.NewConnectionError
    timeout_errors: tuple[type[Exception], ...] = (urllib3.exceptions.TimeoutError,)

    def send(self, wish: Wish) -> Answer:
        options: dict[str, Any] = wish.options("body")
        ca_file = wish.verify if isinstance(wish.verify, str) else None
        with urllib3.PoolManager(ca_certs=ca_file) as manager:
            try:
                response = manager.request(
                    wish.method, wish.url, preload_content=not wish.stream, **options
                )
                body = response.read() if wish.stream else response.data
                return Answer(response.status, body)
            except urllib3.exceptions.MaxRetryError as error:
                # What urllib3 wraps around every failure, with or without the agent.
                return Answer(error=error.reason or error)
            except Exception as error:
                return Answer(error=error)
