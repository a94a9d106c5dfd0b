"""`rentroll emulator serve`: fal's behaviour on loopback, with real SSH boxes, until interrupted."""

import contextlib
import shlex
import sys

import click

from cli.app import App
from cli.options import as_json
from cli.render import emit, note, say


@click.group(name="emulator", no_args_is_help=True)
def command() -> None:
    """The offline fal."""


@command.command(name="serve")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="Port of the API; 0 chooses one.")
@click.option("--ssh-port", type=click.IntRange(0, 65_535), default=0, help="Port of the boxes; 0 chooses one.")
@click.option("--boot", metavar="TIME", default="2s", show_default=True, help="How long a box boots.")
@click.option("--until-eof", is_flag=True, hidden=True, help="Serve until stdin ends.")
@as_json
@click.pass_obj
def serve(app: App, port: int, ssh_port: int, boot: str, until_eof: bool, as_json: bool) -> None:
    """Serve until interrupted; the lines printed point the client at it."""
    import signal
    import tempfile
    from pathlib import Path

    from ledger.domain.errors import UsageFailure
    from ledger.domain.units import parse_duration_ms
    from providers.emulator.machines import Settings
    from providers.emulator.serve import Emulator

    boot_s = parse_duration_ms(boot) / 1000
    # A shell script starts what it puts behind `&` with these ignored, and the boxes' commands would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    with tempfile.TemporaryDirectory(prefix="rentroll-emulator-") as folder, contextlib.ExitStack() as stack:
        emulator = Emulator(
            Path(folder),
            started_at=app.now(),
            settings=Settings(boot_s=boot_s),
            seed=app.random_token(),
            http_port=port,
            ssh_port=ssh_port,
        )
        try:
            stack.enter_context(emulator)
        except OSError as failure:
            raise UsageFailure(
                f"the emulator cannot serve: {(failure.strerror or str(failure)).lower()}",
                hint="choose other ports, or none: any free one is taken then",
            ) from None
        environment = emulator.environment()
        if as_json:
            emit("emulator", {"environment": environment})
        else:
            for name, value in environment.items():
                say(f"export {name}={shlex.quote(value)}")
            note("serving until interrupted; paste the lines above into another shell")
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            if until_eof:
                sys.stdin.buffer.read()
            else:
                signal.pause()
        except KeyboardInterrupt:
            note("stopped")
