"""The command line. Beside `doctor` the only file that knows every plane.

Exit codes: 0 fine; 1 config invalid, or `doctor` or `providers test` found something; 2 usage, or nothing to serve;
3 port taken; 4 data directory in use or unsafe; 5 `serve --take-over` failed, and the node that runs goes on.
"""

import asyncio
import os
import signal
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from fastgw import __version__, doctor, node, provider_check
from fastgw._core import table as shared
from fastgw.mock import faults
from fastgw.mock import server as mock_server
from fastgw.mock.options import MockOptions
from fastgw.plan.compile import build
from fastgw.plan.config import Limits
from fastgw.plan.decode import ConfigErrors
from fastgw.plan.keystore import KeyStore, KeyStoreError
from fastgw.plan.sources import Sources
from fastgw.providers import list_providers, show_provider
from fastgw.recorder import read, verify
from fastgw.state.secrets import SecretFileError, read_secret
from fastgw.telemetry.metrics import SeriesRegistry

DEFAULT_CONFIG = "fastgw.yaml"
DEFAULT_DATA = "./fastgw-data"
FOREVER_US = 1 << 62

data_dir_option = click.option(
    "--data-dir", default=DEFAULT_DATA, envvar="FASTGW_DATA_DIR", show_default=True, help="Where state is kept."
)
config_option = click.option(
    "-c", "--config", type=click.Path(), default=None, help=f"Config file [default: ./{DEFAULT_CONFIG} if it exists]."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fastgw")
def main() -> None:
    """fastgw: a gateway between applications and AI models."""


@main.command()
@config_option
@click.option(
    "--host",
    "hosts",
    multiple=True,
    default=("127.0.0.1",),
    show_default=True,
    help="Address to listen on; repeatable.",
)
@click.option("--port", default=4000, type=click.IntRange(0, 65535), show_default=True)
@click.option("--unix", default=None, type=click.Path(), help="Listen on this unix socket too.")
@click.option("--console-host", default="127.0.0.1", show_default=True)
@click.option("--console-port", default=4001, type=click.IntRange(0, 65535), show_default=True)
@click.option("--workers", default=0, type=click.IntRange(0, 256), help="Worker processes [default: one a core].")
@click.option("--drain", default=30.0, show_default=True, help="Seconds running calls get when the node ends.")
@click.option("--demo", is_flag=True, help="Serve the built-in mock provider, on loopback only.")
@click.option("--auto", is_flag=True, help="As --demo, but only when there is nothing else to serve.")
@click.option("--take-over", is_flag=True, help="Take the place of the node on this data directory, without a drop.")
@data_dir_option
def serve(
    config: str | None,
    hosts: tuple[str, ...],
    port: int,
    unix: str | None,
    console_host: str,
    console_port: int,
    workers: int,
    drain: float,
    demo: bool,
    auto: bool,
    take_over: bool,
    data_dir: str,
) -> None:
    """Run the gateway: by a config file, else by provider keys in the environment."""
    options = node.ServeOptions(
        config=None if demo else _config_path(config),
        hosts=hosts,
        port=port,
        unix=unix,
        console_host=console_host,
        console_port=console_port,
        workers=workers,
        data_dir=data_dir,
        drain=drain,
        demo=demo,
        auto=auto,
        take_over=take_over,
    )
    sys.exit(node.serve(options))


@main.command()
@config_option
@data_dir_option
def check(config: str | None, data_dir: str) -> None:
    """Compile a config without serving it; every error is shown with its path."""
    path = _config_path(config)
    if path is None:
        raise click.UsageError(f"no config: give one with -c, or write ./{DEFAULT_CONFIG}")
    with tempfile.TemporaryDirectory(prefix="fastgw-check-") as scratch:
        for name in ("keys.jsonl", "pepper"):
            _copy_private(Path(data_dir) / name, Path(scratch) / name)
        sources = Sources(data_dir=scratch, environ=dict(os.environ), config=path)
        table = shared.Table.open(str(Path(scratch) / "table"), create=True)
        try:
            plan = build(sources, revision=0, table=table, registry=SeriesRegistry(table.counters))
        except ConfigErrors as found:
            for error in found.errors:
                click.echo(f"{path}: {error}", err=True)
            sys.exit(1)
        finally:
            table.close()
    click.echo(f"{path}: fine: {len(plan.upstreams)} providers, {len(plan.models)} models, {len(plan.keys)} keys")


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="0 takes a free one and prints it.")
@click.option("--latency", default=0.0, metavar="MS", help="Hold every reply back so long.")
@click.option("--ttft", default=None, type=float, metavar="MS", help="The same for a stream's first event.")
@click.option("--tokens", default=16, show_default=True, help="Tokens of a reply.")
@click.option("--tokens-per-second", default=0.0, help="Pace of a stream [default: all at once].")
@click.option("--flush-each", is_flag=True, help="A write for each event of a stream.")
@click.option(
    "--fault", "fault", multiple=True, metavar="SPEC", help="Such as error:503:0.1 or latency:200:0.5; repeatable."
)
@click.option("--seed", default=None, type=int, help="Make ids and times functions of the request.")
@click.option("--key-env", default=None, metavar="NAME", help="Demand the key that this environment variable holds.")
def mock(
    host: str,
    port: int,
    latency: float,
    ttft: float | None,
    tokens: int,
    tokens_per_second: float,
    flush_each: bool,
    fault: tuple[str, ...],
    seed: int | None,
    key_env: str | None,
) -> None:
    """Run a mock provider that speaks OpenAI's dialect: for demos, tests and load."""
    try:
        options = MockOptions(
            host=host,
            port=port,
            latency=latency,
            ttft=ttft,
            tokens=tokens,
            tokens_per_second=tokens_per_second,
            flush_each=flush_each,
            faults=tuple(chance for spec in fault for chance in faults.parse_chances(spec)),
            seed=seed,
            key=os.environ.get(key_env) if key_env else None,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    mock_server.run(options)


@main.group()
def keys() -> None:
    """Keys of callers that are kept in the data directory."""


@keys.command("create")
@click.argument("name")
@click.option(
    "--model", "models", multiple=True, help="A model it may use, or a prefix like openai/*; repeatable [default: all]."
)
@click.option("--requests", default=None, metavar="RATE", help="Such as 600/min.")
@click.option("--burst", default=None, type=int)
@click.option("--expires", default=None, metavar="TIME", help="ISO 8601, such as 2027-01-31.")
@data_dir_option
def keys_create(
    name: str, models: tuple[str, ...], requests: str | None, burst: int | None, expires: str | None, data_dir: str
) -> None:
    """Make a key and print it, this once."""
    _make_private(data_dir)
    try:
        secret = KeyStore(data_dir).create(name, list(models) or None, Limits(requests=requests, burst=burst), expires)
    except (KeyStoreError, SecretFileError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(secret)
    click.echo(f"This is the only time the key {name!r} is shown.", err=True)


@keys.command("list")
@data_dir_option
def keys_list(data_dir: str) -> None:
    """The stored keys, one a line."""
    try:
        rows = KeyStore(data_dir).rows()
    except KeyStoreError as error:
        raise click.ClickException(str(error)) from None
    for row in rows:
        state = "blocked" if row.blocked else f"expires {row.expires}" if row.expires else "active"
        models = ",".join(row.models) if row.models is not None else "*"
        click.echo(f"{row.name}\t{row.prefix}...\t{state}\t{models}\t{row.limits.requests or '-'}\t{row.created}")


@keys.command("revoke")
@click.argument("name")
@data_dir_option
def keys_revoke(name: str, data_dir: str) -> None:
    """Block a key for good."""
    try:
        KeyStore(data_dir).revoke(name)
    except (KeyStoreError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"The key {name!r} is blocked.")


@main.group("providers")
def providers_group() -> None:
    """The vendors that can be served."""


@providers_group.command("list")
def providers_list() -> None:
    """One vendor a line: kind, dialects, the variable that switches it on, address."""
    for one in list_providers():
        click.echo(f"{one.kind}\t{','.join(one.speaks)}\t{one.key_env or '-'}\t{one.base_url or '-'}")


@providers_group.command("show")
@click.argument("kind")
def providers_show(kind: str) -> None:
    """A vendor, how it differs from its dialect, and the models of it whose prices are known."""
    one = show_provider(kind)
    if one is None:
        raise click.ClickException(f"there is no provider {kind!r}; `fastgw providers list` shows all")
    for line in provider_check.described(one):
        click.echo(line)


@providers_group.command("test")
@click.argument("name")
@config_option
@click.option("--model", default="", metavar="MODEL", help="The provider's name of a model [default: the config's].")
@click.option("--timeout", default=30.0, show_default=True, type=click.FloatRange(0.1, 600), help="Seconds for a call.")
def providers_test(name: str, config: str | None, model: str, timeout: float) -> None:
    """Make one tiny real call for each operation of a configured provider, and say what is wrong."""
    try:
        plan = provider_check.plan_of(_config_path(config))
        findings = asyncio.run(provider_check.check(plan, name, model, timeout))
    except ConfigErrors as found:
        for error in found.errors:
            click.echo(error, err=True)
        sys.exit(1)
    except provider_check.NothingToAsk as error:
        raise click.UsageError(str(error)) from None
    _print_findings(findings)


@main.group()
def records() -> None:
    """The records of calls, one JSON object a line."""


@records.command("tail")
@click.option("-n", "count", default=10, show_default=True, type=click.IntRange(0, 100_000))
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@data_dir_option
def records_tail(count: int, follow: bool, data_dir: str) -> None:
    """The last records."""
    if follow:
        # An exception may be raised where Python drops it (a finalizer); the signal itself always ends the process.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _print_lines(read.tail(data_dir, count, follow, _report))


@records.command("export")
@click.option("--since", default=None, metavar="TIME", help="ISO 8601, inclusive.")
@click.option("--until", default=None, metavar="TIME", help="ISO 8601, exclusive.")
@data_dir_option
def records_export(since: str | None, until: str | None, data_dir: str) -> None:
    """All records of a span of time, in the order of their beginning."""
    _print_lines(read.export(data_dir, _micros(since, 0), _micros(until, FOREVER_US), _report))


@records.command("verify")
@data_dir_option
def records_verify(data_dir: str) -> None:
    """Add up exports and spool, and compare with what the gateway counted; exits with 1 when they differ."""
    try:
        verdict = verify.verify(data_dir)
    except (ValueError, RuntimeError, OSError) as error:
        raise click.ClickException(str(error)) from None
    for line in verify.table_lines(verdict.rows):
        click.echo(line)
    for problem in verdict.problems:
        _report(problem)
    for difference in verdict.differences:
        click.echo(f"differs: {difference}")
    sys.exit(1 if verdict.differences or verdict.problems else 0)


@main.command("log-level")
@click.argument("level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--console", default="http://127.0.0.1:4001", show_default=True, help="The console's address.")
@data_dir_option
def log_level(level: str, console: str, data_dir: str) -> None:
    """Change what a running node logs."""
    try:
        key = read_secret(Path(data_dir) / "admin.key")
    except SecretFileError as error:
        raise click.ClickException(str(error)) from None
    request = urllib.request.Request(  # noqa: S310 - the operator's own console
        f"{console}/log-level",
        data=msgspec.json.encode({"level": level}),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            click.echo(answer.read().decode())
    except urllib.error.URLError as error:
        raise click.ClickException(f"{console}: {error}") from None


@main.command("doctor")
@config_option
@click.option("--port", default=4000, show_default=True)
@data_dir_option
def doctor_command(config: str | None, port: int, data_dir: str) -> None:
    """What is wrong with this set-up, and how to mend it."""
    _print_findings(doctor.examine(_config_path(config), Path(data_dir), port))


def _print_findings(findings: list[doctor.Finding]) -> None:
    for finding in findings:
        click.echo(f"[{finding.grade}] {finding.subject}: {finding.text}")
        if finding.mend:
            click.echo(f"       mend: {finding.mend}")
    sys.exit(1 if any(finding.grade == "bad" for finding in findings) else 0)


def _config_path(given: str | None) -> str | None:
    if given is not None:
        return given
    return DEFAULT_CONFIG if Path(DEFAULT_CONFIG).exists() else None


def _copy_private(source: Path, target: Path) -> None:
    if source.is_file():
        target.write_bytes(source.read_bytes())
        target.chmod(0o600)


def _make_private(data_dir: str) -> None:
    Path(data_dir).mkdir(mode=0o700, parents=True, exist_ok=True)


def _print_lines(lines: Iterable[bytes]) -> None:
    out = sys.stdout.buffer
    try:
        for line in lines:
            out.write(line)
            out.flush()
    except (BrokenPipeError, KeyboardInterrupt):
        # Whoever read has seen enough; the interpreter must not fail once more when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(problem: str) -> None:
    click.echo(f"fastgw: {problem}", err=True)


def _micros(text: str | None, default: int) -> int:
    if text is None:
        return default
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"{text!r} is not an ISO 8601 time like 2027-01-31T00:00:00Z") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)
