"""requests behind the interface of the contract."""

from __future__ import annotations

import requests

from integrations.harness import Answer, Errors, Traits, Wish


class Requests:
    library = "requests"
    traits = Traits(rewinds=True)
    base_error: Errors = requests.exceptions.RequestException
    connection_error: type[Exception] = requests.exceptions.ConnectionError
    timeout_errors: tuple[type[Exception], ...] = (
        requests.exceptions.Timeout,
        requests.exceptions.ConnectionError,
    )

    def send(self, wish: Wish) -> Answer:
        with requests.Session() as session:
            try:
                response = session.request(
                    wish.method,
                    wish.url,
                    stream=wish.stream,
                    verify=wish.verify,
                    **wish.options("data"),
                )
                with response:
                    return Answer(response.status_code, response.content)
            except Exception as error:
                return Answer(error=error)
