"""What each command imports: nothing that it does not use, since imports are most of what a command costs."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROBE = """
import atexit, json, os, sys
def tell():
    with open(os.environ["PROBE_FILE"], "w") as file:
        json.dump([name for name, module in sys.modules.items() if getattr(module, "__spec__", None)], file)
atexit.register(tell)
from cli.main import main
sys.exit(main())
"""
HEAVY = {
    *("sqlalchemy", "alembic", "httpx", "paramiko", "asyncio", "asyncssh", "cryptography", "rich", "structlog"),
    *("inspect", "platformdirs"),
}
ENTRY = {"cli", "cli.main", "cli.lazy", "cli.dispatch", "cli.app", "cli.commands", "cli.failures", "cli.settings"}
READING = {
    *("ledger", "ledger.domain", "ledger.domain.errors", "ledger.domain.claim", "ledger.domain.rows"),
    *("ledger.store", "ledger.store.sqlite_connect", "ledger.store.sqlite_errors", "ledger.store.sqlite_read"),
    "ledger.store.sqlite_text",
}
DRAWN = {"cli.options", "cli.render"}


@contextmanager
def ready_lease(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A ledger with one ready lease, whose box is there meanwhile, and the key that leased it."""
    from cli.clock import SystemClock
    from cli.main import main
    from providers.emulator.machines import Settings
    from providers.emulator.serve import Emulator

    folder = tmp_path_factory.mktemp("state")
    boxes = tmp_path_factory.mktemp("boxes")
    emulator = Emulator(boxes, started_at=SystemClock("tests").now(), settings=Settings(boot_s=0.1))
    with emulator, pytest.MonkeyPatch.context() as patch:
        for name, value in {**emulator.environment(), "RENTROLL_STATE_DIR": str(folder)}.items():
            patch.setenv(name, value)
        patch.chdir(folder)
        assert main(["warmup", "--slug", "box"]) == 0
        yield folder, emulator.key


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with one ready lease."""
    with ready_lease(tmp_path_factory) as (folder, _key):
        return folder


def loaded(state: Path, *words: str, code: int = 0, cwd: Path | None = None, **variables: str) -> set[str]:
    """The modules that a whole command line has loaded when it ends."""
    file = state / "modules.json"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RENTROLL_", "FAL_"))}
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", PROBE, *words],
        env={
            **environment,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
            "PROBE_FILE": str(file),
            "RENTROLL_STATE_DIR": str(state),
            "XDG_CONFIG_HOME": str(state),
            **variables,
        },
        cwd=cwd or state,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert done.returncode == code
    return set(json.loads(file.read_text()))


def ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] in ("cli", "ledger", "providers", "migrations")}


def test_version_loads_its_own_module_and_nothing_else(state: Path) -> None:
    modules = loaded(state, "--version")
    assert ours(modules) == {"cli", "cli.main"}
    assert modules & {*HEAVY, "click", "msgspec", "sqlite3", "tomllib", "re"} <= {"re"}


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (("--help",), set[str]()),
        (("list",), {"cli.commands.list", *READING, *DRAWN}),
        (("list", "--json"), {"cli.commands.list", *READING, *DRAWN}),
        (("status", "box"), {"cli.commands.status", "cli.leases", "cli.overdue", *READING, *DRAWN}),
        (("events", "box"), {"cli.commands.events", "cli.leases", "cli.overdue", *READING, *DRAWN}),
    ],
    ids=["--help", "list", "list --json", "status", "events"],
)
def test_what_is_read_loads_what_it_reads_with(state: Path, words: tuple[str, ...], more: set[str]) -> None:
    modules = loaded(state, *words)
    money = {"ledger.domain.money"}
    assert ours(modules) - money == {*ENTRY, "ledger", "ledger.domain", "ledger.domain.errors"} | more
    assert modules & {*HEAVY, "msgspec", "subprocess", "tomllib", "socket"} == set()


def test_completion_loads_neither_the_store_nor_the_providers(state: Path) -> None:
    modules = loaded(state, "completion", "fish")
    assert ours(modules) == {*ENTRY, "cli.commands.completion", "cli.render", "ledger", "ledger.domain"} | {
        "ledger.domain.errors"
    }
    assert modules & (HEAVY - {"inspect"}) == set()


def test_touch_appends_without_the_libraries_of_schema_network_and_terminal(state: Path) -> None:
    modules = loaded(state, "touch", "box")
    assert modules & HEAVY == set()
    assert not any(name.startswith(("providers", "ledger.reports", "ledger.store.migrate")) for name in ours(modules))
    assert not any(name.startswith("ledger.flows") for name in ours(modules) - {
        "ledger.flows", "ledger.flows.book", "ledger.flows.spool",
    })  # fmt: skip


def test_a_run_on_a_warm_lease_loads_no_client_of_the_provider_and_no_library_of_ssh(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """With a key in the environment too. The first run opens the connection, the second one finds it open."""
    if shutil.which("ssh") is None:
        pytest.skip("the system's ssh is not on this machine")
    with ready_lease(tmp_path_factory) as (folder, key):
        for _ in range(2):
            modules = loaded(folder, "run", "--id", "box", "--no-sync", "--", "true", FAL_KEY=key)
    unwanted = {*HEAVY, "subprocess", "tempfile", "shutil", "urllib.request", "socket", "platform"}
    others = ("providers.fal", "providers.worktree", "providers.emulator", "ledger.reports", "ledger.flows.sync")
    assert modules & unwanted == set()
    assert {name for name in ours(modules) if name.startswith(others)} == set()
    assert {"ledger.flows.work", "providers.ssh.box"} <= modules


def test_a_plan_of_a_sync_loads_nothing_that_reaches_a_box_or_writes(state: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    modules = loaded(state, "sync-plan", "--path", str(tmp_path), cwd=tmp_path)
    assert modules & {*HEAVY, "socket", "platform", "urllib.request"} == set()
    assert {name for name in ours(modules) if name.startswith("ledger.store")} <= READING
    others = ("ledger.flows", "ledger.reports", "providers.fal", "providers.ssh", "providers.emulator")
    assert {name for name in ours(modules) if name.startswith(others)} == set()
    assert {name for name in ours(modules) if name.startswith("providers.agent.")} == {"providers.agent.manifest"}


@pytest.mark.parametrize("name", ["warmup", "run", "stop", "ssh", "doctor", "cleanup", "recover", "rotate"])
@pytest.mark.parametrize("word", ["--help", "--no-such-option"])
def test_before_the_network_is_needed_its_libraries_are_not_loaded(state: Path, name: str, word: str) -> None:
    refused = {"run": 125, "ssh": 4}.get(name, 2)  # ssh takes what it does not know for a name
    modules = loaded(state, name, word, code=0 if word == "--help" else refused)
    assert modules & {"httpx", "paramiko", "cryptography", "sqlalchemy", "alembic", "asyncssh", "asyncio"} == set()


@pytest.mark.parametrize("words", [("providers",), ("types",), ("config", "show")])
def test_what_needs_no_ledger_reads_it_only_as_a_listing_does(state: Path, words: tuple[str, ...]) -> None:
    """To say what is overdue, as every command does."""
    modules = loaded(state, *words)
    assert {name for name in modules if name.startswith(("ledger.store", "ledger.flows"))} <= READING
    assert modules & (HEAVY - {"inspect"}) == set()


def test_a_report_on_the_past_needs_no_network_and_no_terminal(state: Path) -> None:
    modules = loaded(state, "verify")
    assert (
        modules & {"httpx", "paramiko", "asyncio", "asyncssh", "cryptography", "rich", "structlog", "alembic"} == set()
    )


def test_the_library_of_ssh_comes_without_what_only_its_own_configuration_files_need() -> None:
    import importlib.util

    probe = "import sys, providers.ssh.connection; print('paramiko' in sys.modules, 'invoke' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, check=True, capture_output=True, text=True)

    assert importlib.util.find_spec("invoke") is not None
    assert told.stdout == "True False\n"
