"""What `run` can be asked to run: words, a line, a script; with variables, a terminal, a tree, and what it fetches."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from cli.asked import read_env_file
from ledger.domain.errors import UsageFailure
from ledger.domain.ports import NoAgent
from providers.emulator.serve import Emulator
from providers.ssh.box import SshBox
from tests.cli.running import Number, Rentroll, lease_object

ON_BOX = ("run", "--id", "box", "--no-sync")


@pytest.fixture
def tree(repository: Path) -> Path:
    """The working folder, a repository with one file."""
    (repository / "main.sh").write_text("echo from the tree\n")
    subprocess.run(["git", "-C", str(repository), "add", "."], check=True)
    return repository


def started(rentroll: Rentroll) -> Any:
    """The newest run's start as the ledger has it."""
    line = rentroll("events", "--type", "run-started", "--jsonl").out.splitlines()[-1]
    return json.loads(line)["payload"]


def test_words_under_shell_are_one_line_for_sh(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll(*ON_BOX, "--shell", "--", "echo one; echo two | tr t T;", "exit 3")
    assert (ran.code, ran.out) == (3, "one\nTwo\n")
    assert (started(rentroll)["kind"], started(rentroll)["command"]) == (
        "shell",
        ["echo one; echo two | tr t T;", "exit 3"],
    )


def test_a_script_runs_as_its_first_line_says(rentroll: Rentroll, box: Any) -> None:
    Path("job.py").write_text("#!/usr/bin/env python3\nimport sys\nprint(sys.stdin.read().upper())\nsys.exit(4)\n")
    ran = rentroll(*ON_BOX, "--script", "job.py", stdin=b"shout")
    assert (ran.code, ran.out) == (4, "SHOUT\n")
    assert (started(rentroll)["kind"], started(rentroll)["command"]) == ("script", ["job.py"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--script", "missing"), "cannot read the script missing: no such file or directory"),
        (("--script", "empty"), "the script empty is empty"),
        (("--script", "empty", "--", "true"), "--script is the whole command"),
        (("--env", "NOT_SET_HERE", "--", "true"), "--env NOT_SET_HERE: there is no variable NOT_SET_HERE here"),
        (("--env", "A=secret", "--", "true"), "--env A: not the name of a variable"),
        (("--env-file", "missing", "--", "true"), "cannot read missing: no such file or directory"),
        (("--download", "a=", "--", "true"), "--download a=: write it as REMOTE or REMOTE=LOCAL"),
        (("--with-git", "--", "true"), "--with-git and --no-sync do not go together"),
        (("--sync-only",), "--sync-only and --no-sync do not go together"),
        ((), "no command to run"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_done(
    rentroll: Rentroll, box: Any, words: tuple[str, ...], message: str
) -> None:
    Path("empty").touch()
    ran = rentroll(*ON_BOX, "--json", *words)
    assert (ran.code, ran.error["code"], ran.error["message"]) == (125, "usage", message)
    assert rentroll("runs").out == "no runs\n"


def test_sync_only_runs_nothing(rentroll: Rentroll, tree: Path, box: Any) -> None:
    ran = rentroll("run", "--id", "box", "--sync-only", "--json", "--", "true")
    assert (ran.code, ran.error["message"]) == (125, "--sync-only runs nothing: leave the command out")
    ran = rentroll("run", "--id", "box", "--sync-only", "--json")
    assert (ran.code, ran.json["run"]) == (0, None)
    assert rentroll(*ON_BOX, "--", "cat", "main.sh").out == "echo from the tree\n"


def test_variables_reach_the_command_and_nothing_else(rentroll: Rentroll, box: Any) -> None:
    Path("vars").write_text("FROM_FILE=file secret\nBOTH=file\n")
    script = 'echo "$FROM_FILE|$BOTH|$OURS|$RENTROLL_RUN_ID"'
    ran = rentroll(
        *ON_BOX, "--env", "OURS", "--env", "BOTH", "--env-file", "vars", "--", "sh", "-c", script,
        env={"OURS": "own secret", "BOTH": "ours", "OTHER": "no"},
    )  # fmt: skip
    assert ran.out == f"file secret|ours|own secret|{started(rentroll)['run_id']}\n"
    assert "secret" not in rentroll("events", "--jsonl").out
    left = [path for path in Path(os.environ["RENTROLL_STATE_DIR"]).rglob("*") if path.is_file()]
    assert [path for path in left if b"own secret" in path.read_bytes() and path.suffix != ".log"] == []


def test_what_an_env_file_says(tmp_path: Path) -> None:
    file = tmp_path / "vars"
    file.write_text('# a comment\n\nA=1\nexport B = two words \nC=\'q # "x"\'\nD="$A\\n"\nE=\nF=a=b # c\r\nA=2\nG=\'\n')
    assert read_env_file(str(file)) == {
        "A": "2",
        "B": "two words",
        "C": 'q # "x"',
        "D": "$A\\n",
        "E": "",
        "F": "a=b # c",
        "G": "'",
    }


@pytest.mark.parametrize("line", ["NOTHING", "1A=secret", "A B=secret", "=secret", "é=secret"])
def test_a_line_that_is_none_is_refused_by_its_number_without_its_value(tmp_path: Path, line: str) -> None:
    file = tmp_path / "vars"
    file.write_text(f"A=1\n{line}\n")
    with pytest.raises(UsageFailure) as refused:
        read_env_file(str(file))
    assert f"{file}, line 2: " in refused.value.message
    assert "secret" not in refused.value.message


def test_a_terminal_is_given_where_it_is_asked_for(rentroll: Rentroll, box: Any) -> None:
    script = "test -t 0 && test -t 1 && test -t 2 && stty size; echo $TERM >&2"
    ran = rentroll(*ON_BOX, "-t", "--", "sh", "-c", script, env={"TERM": "vt220"})
    assert (ran.out.replace("\r", ""), ran.err) == ("24 80\nvt220\n", "")


@pytest.mark.holds("W-29")
def test_the_tree_is_copied_first_and_on_record_with_its_commit(rentroll: Rentroll, tree: Path, box: Any) -> None:
    ran = rentroll("run", "--id", "box", "--json", "--", "sh", "main.sh")
    assert (ran.code, ran.err) == (0, "from the tree\n")
    assert ran.json == {
        "schema": "rentroll.run/1",
        "lease": lease_object(lease_id=box["lease_id"], repo=str(tree), sequence=7, position=7),
        "run": {
            "run_id": started(rentroll)["run_id"],
            "exit_code": 0,
            "signal": None,
            "duration_seconds": Number(),
            "phases": {f"{name}_seconds": Number() for name in ("lease", "ssh", "sync", "command")},
        },
    }
    synced = json.loads(rentroll("events", "--type", "sync-finished", "--jsonl").out)["payload"]
    found = started(rentroll)
    assert (found["manifest_digest"], found["dirty"], found["commit"]) == (synced["manifest_digest"], True, None)


def test_a_tree_that_must_not_be_copied_is_refused_before_a_box_is_paid_for(rentroll: Rentroll, tree: Path) -> None:
    for number in range(200):
        (tree / f"{number}").touch()
    subprocess.run(["git", "-C", str(tree), "add", "."], check=True)
    for number in range(200):
        (tree / f"{number}").unlink()
    ran = rentroll("run", "--json", "--", "true")
    assert (ran.code, ran.error["code"], ran.error["exit_code"]) == (125, "sync", 6)
    assert rentroll("list", "--all", "--json").json["leases"] == []
    assert rentroll("run", "--allow-mass-deletions", "--", "true").code == 0


def test_outside_of_a_repository_a_tree_is_named_or_left_out(rentroll: Rentroll) -> None:
    ran = rentroll("run", "--json", "--", "true")
    assert (ran.code, ran.error["code"]) == (125, "usage")
    Path("data").mkdir()
    Path("data/x").write_text("x\n")
    assert rentroll("run", "--path", "data", "--", "cat", "x").out == "x\n"


def test_files_are_fetched_afterwards_also_when_the_command_failed(rentroll: Rentroll, box: Any) -> None:
    script = "mkdir d; echo 1 >d/one; echo two >two; exit 9"
    ran = rentroll(*ON_BOX, "--download", "two", "--download", "d=out", "--", "sh", "-c", script)
    assert (ran.code, Path("two").read_text(), Path("out/one").read_text()) == (9, "two\n", "1\n")
    rentroll(*ON_BOX, "--download", "two=new/", "--", "true")
    assert Path("new/two").read_text() == "two\n"


def test_a_file_that_is_not_there_fails_a_run_that_went_well(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll(*ON_BOX, "--download", "none", "--json", "--", "true")
    assert (ran.code, ran.error["code"], ran.error["exit_code"]) == (125, "sync", 6)
    ran = rentroll(*ON_BOX, "--download", "none", "--", "false")
    assert (ran.code, "rentroll: not downloaded: sync: " in ran.err) == (1, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--download", "two=no/two"), "--download: there is no folder no here"),
        (("--download", "two=a/two"), "--download: there is no folder a here"),
        (("--junit", "no/out.xml"), "--junit: there is no folder no here"),
        (("--timing-json", "no/out.json"), "--timing-json: there is no folder no here"),
        (("--download", "d=out", "--download", "two=outer/two"), "--download: there is no folder outer here"),
        (("--junit", "."), "--junit: . is not the name of a file"),
        (("--junit", ""), "--junit: nothing is not the name of a file"),
    ],
)
def test_what_has_no_place_here_is_refused_before_a_box_is_paid_for(
    rentroll: Rentroll, words: tuple[str, ...], told: str
) -> None:
    Path("a").write_text("a file\n")
    ran = rentroll("run", "--no-sync", *words, "--json", "--", "true")
    assert (ran.code, ran.error["exit_code"], ran.error["message"]) == (125, 2, told)
    assert rentroll("list", "--all", "--json").json["leases"] == []


def test_a_download_may_go_into_what_an_earlier_one_makes_and_takes_the_place_of_a_file(
    rentroll: Rentroll, box: Any
) -> None:
    Path("new").write_text("old\n")
    Path("new").chmod(0o444)
    make = "mkdir -p a/b; echo one > a/b/one; echo two > two"
    words = ("--download", "a=new-a", "--download", "two=new-a/b/two", "--download", "two=new", "--download", "a/b")
    ran = rentroll(*ON_BOX, *words, "--download", "two=b/two", "--shell", "--", make)
    assert ran.code == 0, ran.err
    found = {str(path): path.read_text() for path in Path().rglob("*") if path.is_file()}
    assert found == {
        "new": "two\n",
        "new-a/b/one": "one\n",
        "new-a/b/two": "two\n",
        "b/one": "one\n",
        "b/two": "two\n",
    }


def test_of_a_download_that_failed_it_is_said_whether_it_can_be_had_yet(rentroll: Rentroll, box: Any) -> None:
    """From a box that stays by cp; from one that the run leased not, unless it was to be kept."""
    nowhere = ("--no-sync", "--download", "none=out", "--json", "--", "true")
    stays = rentroll("run", "--id", "box", *nowhere).error
    goes = rentroll("run", "--slug", "job", *nowhere).error
    kept = rentroll("run", "--slug", "kept", "--keep-on-failure", *nowhere).error
    assert (stays["next"], stays["lease_id"]) == ("rentroll cp box:none out", box["lease_id"])
    keeps = "--keep-on-failure keeps it where the command or a download fails"
    assert goes["hint"] == f"its box goes, and what it holds with it; {keeps}"
    assert kept["next"] == "rentroll cp kept:none out"
    phases = {each["slug"]: each["phase"] for each in rentroll("list", "--all", "--json").json["leases"]}
    assert phases == {"box": "ready", "job": "released", "kept": "ready"}


def test_a_command_for_the_box_is_recommended_without_the_endpoint_which_it_does_not_take(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    flags = ("--slug", "kept", "--keep-on-failure", "--api-url", emulator.url)
    ran = rentroll("run", *flags, "--no-sync", "--download", "none", "--json", "--", "true")
    assert ran.error["next"] == "rentroll cp kept:none ."


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--id", "box", "--no-sync", "--json", "--", "true"),
        ("cp", "--json", "box:x", "."),
        ("sync", "box", "--path", ".", "--json"),
    ],
)
def test_a_failure_on_the_way_to_a_box_names_its_lease(
    rentroll: Rentroll, box: Any, emulator: Emulator, words: tuple[str, ...]
) -> None:
    emulator.rekey(box["instance_id"])
    error = rentroll(*words, env={"RENTROLL_SSH": "library"}).error
    assert (error["code"], error["lease_id"]) == ("ssh", box["lease_id"])
    assert error["next"] == "rentroll status box --refresh"


def junit(file: Path) -> tuple[dict[str, str], list[tuple[str, str]]]:
    suite = ET.parse(file).getroot()
    (case,) = suite
    return {**suite.attrib, **case.attrib}, [(inner.tag, inner.attrib["message"]) for inner in case]


@pytest.mark.parametrize(
    ("words", "name", "counts", "inner"),
    [
        (("echo", "<&\x1b>"), "echo '<&?>'", ("0", "0"), []),
        (("false",), "false", ("1", "0"), [("failure", "exit code 1")]),
    ],
)
def test_the_summary_for_ci_has_one_case(
    rentroll: Rentroll, box: Any, words: tuple[str, ...], name: str, counts: tuple[str, str], inner: list[Any]
) -> None:
    rentroll(*ON_BOX, "--junit", "out.xml", "--", *words)
    attributes, found = junit(Path("out.xml"))
    assert (attributes["name"], (attributes["failures"], attributes["errors"]), found) == (name, counts, inner)
    assert float(attributes["time"]) >= 0


def test_the_summary_tells_a_failure_of_our_own_as_an_error(rentroll: Rentroll, box: Any) -> None:
    rentroll(*ON_BOX, "--junit", "out.xml", "--download", "none", "--", "true")
    attributes, found = junit(Path("out.xml"))
    assert (attributes["errors"], [tag for tag, _ in found]) == ("1", ["error"])


def test_what_a_box_lacks_is_told_also_once_it_was_given_back(
    rentroll: Rentroll, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command on another box would fail in the same way."""

    def without(*_: Any, **__: Any) -> None:
        raise NoAgent("the box has no python3.", stage="tools", hint="install python3")

    monkeypatch.setattr(SshBox, "open", without)
    error = rentroll("run", "--no-sync", "--slug", "job", "--env", "PATH", "--json", "--", "true").error
    assert (error["code"], error["hint"], "next" in error) == ("ssh", "install python3 on the box", False)
