"""`sync-plan`: what a sync would copy, why, and what it would refuse; without a key, a ledger or a box."""

import json
import os
from pathlib import Path

import pytest

from tests.cli.running import Rentroll


@pytest.fixture
def work(repository: Path) -> Path:
    for path, size in {
        "a.py": 10,
        "data/big.bin": 3000,
        "lib/b.py": 20,
        "node_modules/x.js": 5,
        "noise.log": 7,
    }.items():
        (repository / path).parent.mkdir(exist_ok=True)
        (repository / path).write_bytes(b"x" * size)
    (repository / ".gitignore").write_text("*.log\n")
    return repository


def test_the_plan_counts_and_names_the_largest(rentroll: Rentroll, work: Path) -> None:
    ran = rentroll("sync-plan")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        f"{work}: 4 files, 3.0 KiB, 2 folders\n"
        "left out by built-in excludes: node_modules\n"
        "\n"
        "LARGEST       SIZE\n"
        "data/big.bin  2.9 KiB\n"
        "lib/b.py      20 B\n"
        "a.py          10 B\n"
        ".gitignore    6 B\n"
    )


def test_the_plan_as_json_is_one_object(rentroll: Rentroll, work: Path) -> None:
    (work / "far").symlink_to("/etc")
    plan = rentroll("sync-plan", "--json").json
    digest = plan.pop("digest")
    assert (len(digest), digest) == (64, rentroll("sync-plan", "--json").json["digest"])
    assert plan == {
        "schema": "rentroll.sync-plan/1",
        "ok": True,
        "root": str(work),
        "files": 5,
        "folders": 2,
        "bytes": 3036,
        "largest": [
            {"path": "data/big.bin", "bytes": 3000},
            {"path": "lib/b.py", "bytes": 20},
            {"path": "a.py", "bytes": 10},
            {"path": ".gitignore", "bytes": 6},
        ],
        "deleted": [],
        "omitted": 0,
        "left_out": ["node_modules"],
        "not_copied": [],
        "leading_out": [{"path": "far", "target": "/etc"}],
        "warnings": ["far is a link to /etc, out of the tree: on the box it leads elsewhere or nowhere"],
        "refusals": [],
        "explanations": [],
    }


def test_no_ledger_and_no_key_are_needed_and_none_is_made(rentroll: Rentroll, work: Path, tmp_path: Path) -> None:
    ran = rentroll("sync-plan", env={"RENTROLL_FAL_KEY": None, "FAL_KEY": None, "RENTROLL_FAL_API_URL": None})
    assert ran.code == 0
    assert list((tmp_path / "state").iterdir()) == []


@pytest.mark.holds("PEER-48")
def test_the_rule_for_each_path_is_named(rentroll: Rentroll, work: Path) -> None:
    ran = rentroll("sync-plan", "--explain", "noise.log", "--explain", "a.py")
    assert ran.out == (
        "noise.log is not copied: ignored by git\n"
        "  .gitignore:1: *.log\n"
        "a.py is copied: untracked\n"
        "  git does not track it and does not ignore it\n"
    )
    explained = rentroll("sync-plan", "--explain", "noise.log", "--json").json["explanations"]
    assert explained == [
        {"path": "noise.log", "included": False, "rule": "ignored by git", "source": ".gitignore:1: *.log"}
    ]


def test_a_folder_is_planned_as_it_is_with_path(rentroll: Rentroll, work: Path) -> None:
    assert rentroll("sync-plan", "--path", "lib", "--json").json["files"] == 1
    ran = rentroll("sync-plan", "--path", ".", "--explain", "noise.log")
    assert ran.out == "noise.log is copied: --path\n  --path copies a folder as it is\n"


def test_a_tree_that_a_sync_would_refuse_is_planned_whole_and_ends_with_its_code(
    rentroll: Rentroll, work: Path
) -> None:
    for number in range(200):
        (work / f"gone{number:03}").touch()
    os.system("git add . && git -c user.name=n -c user.email=e commit -qm x && rm gone*")
    ran = rentroll("sync-plan")
    assert (ran.code, ran.err) == (6, "")
    assert ran.out.splitlines()[1] == "200 tracked files deleted here: gone000, gone001, gone002 and 197 more"
    hint = "they would be deleted on the box too; if they should be: --allow-mass-deletions; `git status` shows them"
    assert ran.out.splitlines()[-2:] == [
        "REFUSED: 200 files that git tracks are deleted here: gone000, gone001, gone002 and 197 more",
        f"  hint: {hint}",
    ]
    plan = rentroll("sync-plan", "--json")
    assert (plan.code, plan.json["ok"], len(plan.json["deleted"]), len(plan.json["refusals"])) == (6, False, 200, 1)


def test_outside_of_a_repository_path_is_named(rentroll: Rentroll) -> None:
    ran = rentroll("sync-plan", "--json")
    assert ran.code == 2
    assert json.loads(ran.out)["error"] == {
        "code": "usage",
        "exit_code": 2,
        "message": f"{Path.cwd()} is in no git repository, so it does not say what to copy",
        "hint": "--path DIR copies a folder as it is, without git",
    }


def test_a_name_that_is_not_utf_8_is_told_and_kept_in_json(rentroll: Rentroll, work: Path) -> None:
    name = os.fsdecode(b"caf\xe9\x1b.bin")
    (work / name).write_bytes(b"x" * 9000)
    ran = rentroll("sync-plan")
    assert ran.out.splitlines()[4] == "caf\\xe9\\x1b.bin  8.8 KiB"
    assert rentroll("sync-plan", "--json").json["largest"][0] == {"path": name, "bytes": 9000}
    assert rentroll("sync-plan", "--explain", name).out.startswith("caf\\xe9\\x1b.bin is copied: untracked\n")


def test_a_present_folder_that_is_gone_is_refused(
    rentroll: Rentroll, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    ran = rentroll("sync-plan", "--explain", "a")
    assert (ran.code, ran.err.splitlines()[0]) == (
        2,
        "rentroll: usage: . is no folder that can be read: No such file or directory",
    )


def test_the_state_folder_is_not_in_the_plan(rentroll: Rentroll, work: Path) -> None:
    state = work / "state"
    (state / "keys").mkdir(parents=True)
    (state / "keys/id_ed25519").touch()
    plan = rentroll("sync-plan", "--json", env={"RENTROLL_STATE_DIR": str(state)}).json
    assert (plan["files"], plan["not_copied"]) == (
        4,
        [{"path": "state", "reason": "rentroll's own folder, which holds keys"}],
    )
