"""The global options, once they are read: what every command is given."""

from dataclasses import dataclass, field
from typing import Literal

Format = Literal["auto", "table", "json"]


@dataclass(slots=True)
class Settings:
    """What the options and their variables gave; None or empty where neither did, so that a context or a default counts."""

    instance: str | None = None
    host: str | None = None
    port: int | None = None
    cookie_file: tuple[str, ...] = ()
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None
    context: str | None = None
    node: str | None = None
    """The member to ask, through the one that is addressed."""

    timeout: float = 5.0
    output: Format = "auto"
    no_color: bool = False
    debug: bool = False
    origins: dict[str, str] = field(default_factory=dict)
    """Of each field that was given: the option, as ``--port``, or the variable."""

    in_session: bool = False
    """The command is a line of a prompt, which has read the environment already."""

    speaks_json: bool = False
    """The command is a question, and a program reads the answer."""

    @property
    def color(self) -> bool | None:
        """What click is to do about colours; None: as the terminal allows."""
        return False if self.no_color else None
