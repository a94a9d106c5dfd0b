"""A job on a terminal of the box."""

from typing import Any

from providers.agent import frames
from tests.agent.client import Channel, Place

TTY = {"rows": 31, "cols": 97, "term": "xterm-256color"}


def on_terminal(box: Place, line: str) -> Channel:
    channel = box.channel()
    channel.run("sh", "-c", line, tty=TTY, stdin=True)
    return channel


def test_the_job_has_a_terminal_of_the_size_and_kind_that_were_asked_for(box: Place) -> None:
    channel = on_terminal(box, "tty -s && stty size && echo $TERM && ls -l /proc/self/fd/2 | grep -c pts; exit 7")
    assert channel.end() == (7, None)
    assert bytes(channel.stdout) == b"31 97\r\nxterm-256color\r\n1\r\n"
    assert bytes(channel.stderr) == b""


def test_a_new_size_reaches_the_job(box: Place) -> None:
    channel = on_terminal(box, "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.02; done")
    channel.until_output(b"ready")
    channel.say(op="resize", rows=50, cols=132)
    channel.until_output(b"50 132")
    assert channel.end() == (0, None)


def test_control_c_interrupts_the_job_in_the_foreground(box: Place) -> None:
    channel = on_terminal(box, "echo ready; exec sleep 600")
    channel.until_output(b"ready")
    channel.write(frames.STDIN, b"\x03")
    assert channel.end() == (None, "INT")


def test_the_end_of_input_is_the_one_of_a_terminal(box: Place) -> None:
    channel = on_terminal(box, "stty -echo; echo ready; cat; echo over")
    channel.until_output(b"ready\r\n")
    channel.write(frames.STDIN, b"line\n")
    channel.write(frames.STDIN_END)
    assert channel.end() == (0, None)
    assert bytes(channel.stdout) == b"ready\r\nline\r\nover\r\n"


def test_a_tear_hangs_nothing_up(box: Place) -> None:
    first = on_terminal(box, "echo ready; read x; echo got $x")
    first.until_output(b"ready")
    first.tear()
    second = box.channel()
    second.attach(gives=True)
    second.write(frames.STDIN, b"it\n")
    assert second.end() == (0, None)
    assert bytes(second.stdout).endswith(b"got it\r\n")


def test_the_job_controls_its_terminal(box: Place) -> None:
    channel = on_terminal(box, "echo hello > /dev/tty; ps -o tpgid= -p $$ | tr -d ' ' | grep -qx $$ && echo foreground")
    assert channel.end() == (0, None)
    assert bytes(channel.stdout) == b"hello\r\nforeground\r\n"


def test_a_size_that_is_none_is_refused(box: Place) -> None:
    channel = on_terminal(box, "read x")
    wrong: dict[str, Any] = {"op": "resize", "rows": "many", "cols": 1}
    assert channel.ask("failed", **wrong)["stage"] == "protocol"
    channel.write(frames.STDIN, b"\n")
    assert channel.end() == (0, None)
