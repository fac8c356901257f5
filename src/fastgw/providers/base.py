"""The shape of a vendor."""

from msgspec import Struct


class Provider(Struct, frozen=True):
    """A vendor as data.

    `speaks` maps a dialect's name to a path below `base_url`, in which `{model}` and `{api_version}` are replaced.
    `auth_header` with `auth_scheme` (say `Bearer`) carries the credential. `key_env` is the variable that switches the
    vendor on when fastgw starts from the environment alone.
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
