"""Text of others as it is shown: one filter for each format. HTML's is Jinja's escaping, behind `plain`."""

import re
from collections.abc import Callable, Sequence
from typing import Any

MOST_SHOWN = 4_000  # characters of one text, for people
# The last four are wide forms, which some spreadsheets take for the others.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def printable(text: str) -> str:
    """The text with unprintable characters, also those that control a terminal, escaped as in Python."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def plain(text: str) -> str:
    """One line of printable characters, for a terminal and for HTML; of a longer one than MOST_SHOWN the beginning."""
    line = re.sub(r"\s+", " ", text[: 2 * MOST_SHOWN]).strip()
    if len(line) > MOST_SHOWN or len(text) > 2 * MOST_SHOWN:
        line = f"{line[:MOST_SHOWN]} ... ({len(text):,} characters)"
    return "".join(c if c.isprintable() else "�" for c in line)


def in_one_line(error: BaseException, most: int = 200) -> str:
    """What the error says, its first `most` characters; its type where it says nothing.

    Of an error of the system its reason and its file; of one of PyTorch's not the stack of its C++.
    """
    said = str(error)
    if isinstance(error, OSError) and error.strerror is not None and error.filename is not None:
        said = f"{error.strerror}: {error.filename}"
    return " ".join(said.partition("\nframe #")[0].split())[:most] or type(error).__name__


def markdown(text: Any) -> str:
    """As plain, and its characters mean nothing in Markdown, in a table or outside, at a line's beginning or in it."""
    line = plain(str(text)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_\[\]|])", r"\\\1", line)
    return re.sub(
        r"^([#~=]|[+-](?=[\s+-]|$)|\d+(?=[.)](?:\s|$)))", lambda begin: begin[1][:-1] + _escaped(begin[1][-1]), line
    )


def _escaped(character: str) -> str:
    return f"&#{ord(character)};"


def csv_cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets a "'" before it; numbers stay numbers.

    Carriage returns become line feeds: Python's csv does not quote the former, which begin a new row elsewhere.
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if text.lstrip().startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", text))


def filtered(data: Any, by: Callable[[str], str]) -> Any:
    """Every text in a record's data through a filter, keys included."""
    if isinstance(data, dict):
        return {by(str(key)): filtered(value, by) for key, value in data.items()}
    if isinstance(data, list):
        return [filtered(value, by) for value in data]
    return by(data) if isinstance(data, str) else data


def without_secrets(words: Sequence[str]) -> list[str]:
    """The words of a command, without what stands for a user and a password in an address.

    An address is what has "://" in it, or a ":" before its last "@", or follows --address. As a password may hold any
    sign, all that stands before the last "@" is left out.
    """
    before = ["", *words]
    return [_masked(word, earlier == "--address") for word, earlier in zip(words, before, strict=False)]


def _masked(word: str, is_address: bool) -> str:
    option, equals, rest = word.partition("=")
    if equals and re.fullmatch(r"[\w.-]+", option):  # --address=..., --set=key=..., key=...
        return f"{option}={_masked(rest, option == '--address')}"
    userinfo, at, host = word.rpartition("@")
    scheme, mark, _ = userinfo.partition("://")
    return f"{scheme if mark else ''}{mark}***@{host}" if at and (is_address or ":" in userinfo) else word
