"""Chat and e-mail tickets to whatever Apprise can reach: https://github.com/caronc/apprise/wiki names the addresses.

Apprise says whether a message was sent and not why it was not, so that every failure is tried again; and most of what
it reaches knows no key: a message whose answer is lost is told twice. Pages belong to channels that do.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, SecretStr

from monitor.channels._http import HttpOptions
from monitor.channels._text import facts, links, others, title
from monitor.channels.base import ChannelKind, Delivery, Outcome

if TYPE_CHECKING:
    from apprise import NotifyBase

# It logs addresses and what services answer, and those hold tokens; what failed is told by us.
for _name in ("apprise", "urllib3", "requests"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


def _known(given: SecretStr) -> SecretStr:
    if _service(given) is None:
        raise ValueError("is no address that Apprise knows, as mailto://user:password@example.com is")
    return given


def _service(url: SecretStr) -> NotifyBase | None:
    from apprise import Apprise  # here, as it takes long to import, and few use it

    return Apprise.instantiate(url.get_secret_value())


class AppriseOptions(HttpOptions):
    """One Apprise address; more are receivers of their own, so that none is told twice as another one failed."""

    url: Annotated[SecretStr, AfterValidator(_known)]


class AppriseChannel:
    """Sends to one service."""

    def __init__(self, options: AppriseOptions) -> None:
        from apprise import Apprise

        service = _service(options.url)
        assert service is not None, "options are checked"
        service.socket_connect_timeout = service.socket_read_timeout = options.timeout_seconds
        self._apprise = Apprise()
        self._apprise.add(service)

    def send(self, message: Mapping[str, Any], dedup_key: str) -> Delivery:
        """Send the message once. What is longer than the service takes is cut or split by Apprise."""
        lines = [message["summary"], *others(message)]
        lines += [f"{name}: {value}" for name, value in facts(message).items()]
        lines += [f"{name}: {url}" for name, url in ({"runbook": message["runbook"]} | links(message)).items()]
        sent = self._apprise.notify(
            body="\n".join(lines),
            title=title(message),
            notify_type=_type(message),
            body_format="text",
        )
        return Delivery(Outcome.SENT) if sent else Delivery(Outcome.RETRY, "not sent")

    def close(self) -> None:
        """Nothing is kept open."""


def _type(message: Mapping[str, Any]) -> str:
    if message["state"] != "firing":
        return "success"
    return "failure" if message["severity"] == "page" else "warning"


CHANNEL = ChannelKind("apprise", AppriseOptions, AppriseChannel)
