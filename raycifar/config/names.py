"""Names of sweeps and trials, and the error for all that a sweep file may have wrong."""

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from raycifar.errors import InputError


class SpecError(InputError):
    """A sweep file, or a setting on the command line, is wrong. The message names place, value and remedy."""


# A name becomes a folder: short, and nothing that a shell or a file system treats specially.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
NAME_RULE = "a name is 1 to 64 letters, digits, '.', '_' or '-', and starts with a letter or digit"
Name = Annotated[str, Field(pattern=NAME)]
# The user's own code: package.module:function, or the name of an entry point; "" for none.
_WORD = "[A-Za-z_][A-Za-z0-9_]*"
Source = Annotated[str, Field(max_length=200, pattern=rf"^({_WORD}(\.{_WORD})*:{_WORD}|{_WORD}(-[A-Za-z0-9_]+)*|)$")]


def check_name(name: str, place: str) -> None:
    """Raises SpecError where `name` cannot name a folder of results."""
    if not re.fullmatch(NAME[1:-1], name):
        raise SpecError(f"{place} {name[:80]!a}: {NAME_RULE}")


def short(text: str) -> str:
    """The text, its middle left out where it is longer than 80 characters."""
    return text or "''" if len(text) <= 80 else f"{text[:40]}...{text[-20:]}"


def listed(names: Sequence[str]) -> str:
    """The first ten names, and how many more there are."""
    more = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    return ", ".join(short(name) for name in names[:10]) + more
