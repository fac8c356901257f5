"""The shape of a vendor."""

from msgspec import Struct

from fastgw.plan.plan import Quirks
from fastgw.providers.quirks import Fix


class Provider(Struct, frozen=True):
    """A vendor as data.

    `speaks` maps a dialect's name to a path below `base_url`, in which `{model}` and `{api_version}` are replaced;
    `stream_speaks` holds the paths that are others when the reply is streamed. `asks_usage`: a stream tells its usage
    when `stream_options` asks for it (others refuse that field, and tell it anyway). `auth_header` with `auth_scheme`
    (say `Bearer`) carries the credential. `key_env` is the variable that switches the vendor on when fastgw starts from
    the environment alone. `tested`: there is a recorded fixture of it, or a server that was asked. `title`, `docs` and
    `note` (a limit that is known) are for docs/providers.md. `allow`: request headers of its own dialect that travel.

    `auth` is the scheme (`upstream.auth`) that makes its credential where the config gives no `api_key`. Addresses,
    paths and `set_fields` may hold `{project}`, `{location}` and `{region}`, which the config then must give;
    `base_urls` are addresses of single locations.

    Where its interface differs from its dialect: `drop_fields`, `rename_fields` ({ours: theirs}), `clamp` ({field:
    (low, high)}), `default_fields` and `set_fields` ({field: raw JSON}) and `features` are its `Quirks`, by field;
    `models` holds further ones for models whose name begins with a pattern. `fix_request`, of 20 lines at most, is for
    what no data can say; a fixture shows why.
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
    auth: str = ""
    base_urls: dict[str, str] = {}
    drop_fields: tuple[str, ...] = ()
    rename_fields: dict[str, str] = {}
    clamp: dict[str, tuple[float, float]] = {}
    default_fields: dict[str, str] = {}
    set_fields: dict[str, str] = {}
    features: tuple[str, ...] = ()
    models: dict[str, Quirks] = {}
    fix_request: Fix | None = None

    @property
    def quirks(self) -> Quirks:
        """What holds for all its models."""
        return Quirks(
            self.drop_fields, self.rename_fields, self.clamp, self.default_fields, self.set_fields, self.features
        )
