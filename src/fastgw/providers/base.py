"""The shape of a vendor."""

from msgspec import Struct


class Provider(Struct, frozen=True):
    """A vendor as data.

    `speaks` maps a dialect's name to a path below `base_url`, in which `{model}` and `{api_version}` are replaced;
    `stream_speaks` holds the paths that are others when the reply is streamed. `asks_usage`: a stream tells its usage
    when `stream_options` asks for it (others refuse that field, and tell it anyway). `auth_header` with `auth_scheme`
    (say `Bearer`) carries the credential. `key_env` is the variable that switches the vendor on when fastgw starts from
    the environment alone. `tested`: there is a recorded fixture of it, or a server that was asked. `title`, `docs` and
    `note` (a limit that is known) are for docs/providers.md. `allow`: request headers of its own dialect that travel.
    """

    kind: str
    speaks: dict[str, str]
    base_url: str = ""
    auth_header: str = "authorization"
    auth_scheme: str = "Bearer"
    key_required: bool = True
    key_env: str = ""
    api_version: str = ""
    headers: dict[str, str] = {}
    stream_speaks: dict[str, str] = {}
    asks_usage: bool = True
    allow: tuple[str, ...] = ()
    tested: bool = False
    title: str = ""
    docs: str = ""
    note: str = ""
