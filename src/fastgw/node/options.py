"""What `serve` is told."""

from msgspec import Struct


class ServeOptions(Struct, frozen=True, kw_only=True):
    """How to start a node.

    `workers` 0: one a core the cgroup allows. `drain`: seconds running calls get at the end. `demo` wires the built-in
    mock; `auto` does so when neither a config file nor the environment gives anything to serve. `unix` is the path of
    a further listener. `take_over`: a node that runs on the same data directory hands over to this one.
    """

    config: str | None = None
    hosts: tuple[str, ...] = ("127.0.0.1",)
    port: int = 4000
    unix: str | None = None
    console_host: str = "127.0.0.1"
    console_port: int = 4001
    workers: int = 0
    data_dir: str = "./fastgw-data"
    drain: float = 30.0
    demo: bool = False
    auto: bool = False
    take_over: bool = False
