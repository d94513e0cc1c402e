"""Slack, by an incoming webhook: one message of blocks (https://docs.slack.dev/reference/block-kit/blocks).

An incoming webhook knows no key: a message whose answer is lost is told twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from monitor.channels._http import Address, HttpOptions, Poster, encode
from monitor.channels._text import ELLIPSIS, facts, links, others, shorten, title
from monitor.channels.base import ChannelKind, Delivery
from monitor.domain.clock import SystemClock

HEADER, SECTION, FIELD, TEXT = 150, 3000, 2000, 4000  # characters
SIGN = {"page": ":rotating_light:", "ticket": ":warning:"}


class SlackOptions(HttpOptions):
    """The address of the incoming webhook, which is a secret."""

    url: Address


class SlackChannel:
    """Posts to the channel of one incoming webhook."""

    def __init__(self, options: SlackOptions) -> None:
        self._url = options.url.get_secret_value()
        self._poster = Poster(options.timeout_seconds, SystemClock())

    def send(self, message: Mapping[str, Any], dedup_key: str) -> Delivery:
        """Post the message once."""
        text = escape(f"{title(message)}: {message['summary']}", TEXT)
        return self._poster.post(self._url, encode({"text": text, "blocks": blocks(message)}), {})

    def close(self) -> None:
        """Give back connections."""
        self._poster.close()


def blocks(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The message as blocks: what it is, what it says, what is known, and where to go on."""
    sign = SIGN[message["severity"]] if message["state"] == "firing" else ":white_check_mark:"
    header = {"type": "plain_text", "emoji": True, "text": shorten(f"{sign} {title(message)}", HEADER)}
    found: list[dict[str, Any]] = [
        {"type": "header", "text": header},
        {"type": "section", "text": _text(escape(message["summary"], SECTION))},
    ]
    if known := facts(message):
        fields = [_text(f"*{name}*\n{escape(value, FIELD - len(name) - 3)}") for name, value in known.items()]
        found.append({"type": "section", "fields": fields[:10]})
    if also := others(message):
        found.append({"type": "section", "text": _text(escape("\n".join(also), SECTION))})
    where = [f"<{escape(url, FIELD)}|{name}>" for name, url in links(message).items()]
    if "runbook" not in links(message):
        where.append(f"runbook {escape(message['runbook'], FIELD)}")
    found.append({"type": "context", "elements": [_text(each) for each in where]})
    return found


def escape(text: str, limit: int) -> str:
    """Text that mentions nobody and links nowhere (`&`, `<` and `>` are Slack's control characters), cut to a limit."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(f"&[a-z]*{ELLIPSIS}$", ELLIPSIS, shorten(escaped, limit))  # not half of an entity


def _text(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text}


CHANNEL = ChannelKind("slack", SlackOptions, SlackChannel)
