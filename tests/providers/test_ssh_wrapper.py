"""How a command's process group is learnt and its stderr stays its own."""

import itertools
import subprocess

from hypothesis import given
from hypothesis import strategies as st

from providers.ssh.wrapper import ReportFilter, kill_line, wrapped

NOISE = st.binary(max_size=40).filter(lambda noise: b"rentroll" not in noise)


@given(NOISE, st.integers(1, 4_194_304), st.binary(max_size=60), st.lists(st.integers(0, 130), max_size=6))
def test_the_report_is_found_and_removed_however_the_stream_is_cut(
    noise: bytes, process: int, said: bytes, cuts: list[int]
) -> None:
    stream = noise + b"rentroll-process:%d\n" % process + said
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    report = ReportFilter()
    passed = b"".join(report.feed(stream[a:b]) for a, b in itertools.pairwise(bounds))
    assert (passed + report.rest(), report.process_group) == (noise + said, process)


def test_only_the_first_report_counts() -> None:
    report = ReportFilter()
    assert report.feed(b"rentroll-process:7\nrentroll-process:8\n") == b"rentroll-process:8\n"
    assert report.process_group == 7


def test_a_stream_without_a_report_is_passed_on_once_it_is_long() -> None:
    report = ReportFilter()
    assert report.feed(b"x" * 65_536) == b""
    assert report.feed(b"y") == b"x" * 65_536 + b"y"
    assert (report.feed(b"rentroll-process:7\n"), report.process_group) == (b"rentroll-process:7\n", None)


def test_a_short_stream_without_a_report_is_passed_on_at_its_end() -> None:
    report = ReportFilter()
    assert (report.feed(b"command not found\n"), report.rest(), report.rest()) == (b"", b"command not found\n", b"")


def test_the_shell_that_reports_is_the_one_that_becomes_the_command() -> None:
    run = subprocess.run(
        ["bash", "-c", wrapped("echo $$; echo 'it''s' >&2; exit 7")], capture_output=True, check=False, text=True
    )
    assert (run.returncode, run.stderr) == (7, f"rentroll-process:{run.stdout.strip()}\nits\n")


def test_the_kill_line_reaches_a_whole_group() -> None:
    with subprocess.Popen(
        ["sh", "-c", "sh -c 'echo up; sleep 1000; true'; true"], stdout=subprocess.PIPE, start_new_session=True
    ) as group:
        assert group.stdout is not None
        assert group.stdout.readline() == b"up\n"
        assert subprocess.run(["sh", "-c", kill_line(group.pid, "TERM")], check=False).returncode == 0
        assert (group.stdout.read(), group.wait()) == (b"", -15)


def test_the_kill_line_fails_when_there_is_no_such_group() -> None:
    with subprocess.Popen(["true"], start_new_session=True) as gone:
        gone.wait()
    assert subprocess.run(["sh", "-c", kill_line(gone.pid, "TERM")], check=False).returncode != 0
