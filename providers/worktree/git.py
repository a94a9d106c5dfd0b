"""Asks git, several questions at once, and turns its refusals into ours.

What a hook, an alias or a habit has put into the environment (`GIT_DIR`, `GIT_INDEX_FILE`) must not lead to another
repository than the folder's; git takes no optional locks and starts no file-system monitor for us.
"""

import os
import re
import selectors
import subprocess
import time
from contextlib import nullcontext
from types import TracebackType
from typing import IO, NamedTuple, Self, cast

from ledger.domain.errors import RentrollError, SyncFailure, UsageFailure
from ledger.domain.syncing import shown
from ledger.noticing import NOTICE_S

MISLEADING = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_PREFIX"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_SHALLOW_FILE"),
    *("GIT_GRAFT_FILE", "GIT_REPLACE_REF_BASE", "GIT_INTERNAL_SUPER_PREFIX", "GIT_CONFIG"),
    *("GIT_LITERAL_PATHSPECS", "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS", "GIT_ICASE_PATHSPECS"),
)
"""Variables that `git rev-parse --local-env-vars` names, without those of the configuration: they allow a folder."""
GIT = ("git", "-c", "core.fsmonitor=false", "-c", "diff.relative=false")
CHUNK_BYTES = 1 << 20
CLOSED = re.compile(rb"^warning: could not open directory '(?:\.|(.*?)/)': ([^'\n]+)\n?", re.MULTILINE | re.DOTALL)
"""What git says, to go on, of a folder that it cannot read; control characters of its name are question marks then."""
GONE = (b"No such file or directory", b"Not a directory")
PATH_HINT = "--path DIR copies a folder as it is, without git"


class Answer(NamedTuple):
    """How git ended: its exit code, its output, its words on stderr."""

    code: int
    out: bytes
    words: bytes

    @property
    def said(self) -> str:
        """Its words as text."""
        return self.words.decode("utf-8", "backslashreplace").strip()

    @property
    def closed(self) -> dict[bytes, str]:
        """The folders that it could not read, each with why; not those that went while it looked."""
        return {path or b".": os.fsdecode(why) for path, why in CLOSED.findall(self.words) if why not in GONE}

    @property
    def notes(self) -> list[str]:
        """Its other warnings."""
        rest = CLOSED.sub(b"", self.words).decode("utf-8", "backslashreplace")
        return [line.removeprefix("warning: ") for line in rest.strip().splitlines()]

    def parts(self) -> list[bytes]:
        """An output whose records end in NUL. Raises `SyncFailure` where git failed."""
        if self.code:
            raise failure(self.said)
        return self.out.split(b"\0")[:-1]


class Question:
    """One git process at work."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.heard: dict[IO[bytes], list[bytes]] = {}
        self.open = 0


class Git:
    """Runs git processes side by side; leaving it ends those that still run. Together they have `timeout_s` seconds."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._streams = selectors.DefaultSelector()
        self._questions: list[Question] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for question in self._questions:
            process = question.process
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        self._streams.close()

    def ask(
        self, folder: bytes, *words: str | bytes, ceiling: bytes | None = None, given: bytes | None = None
    ) -> Question:
        """Starts `git WORDS` in a folder; with a ceiling git looks for the repository below that only.

        `given` is what it reads from stdin.

        Raises `UsageFailure` where git cannot be started.
        """
        try:
            with nullcontext(subprocess.DEVNULL) if given is None else _file_of(given) as stdin:
                process = subprocess.Popen(
                    [*GIT, *words],
                    cwd=folder,
                    env=_environment(ceiling),
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                )
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            told = "git is not on this machine" if missing else f"git could not be started: {error.strerror}"
            raise UsageFailure(told, hint=f"git says what belongs to a working tree; {PATH_HINT}") from error
        question = Question(process)
        for stream in (process.stdout, process.stderr):
            assert stream is not None  # noqa: S101 - both are pipes
            question.heard[stream] = []
            question.open += 1
            self._streams.register(stream, selectors.EVENT_READ, question)
        self._questions.append(question)
        return question

    def answer(self, question: Question) -> Answer:
        """Waits for one of them, and listens to the others meanwhile. Raises `SyncFailure` at the time limit."""
        while question.open:
            left_s = self._deadline - time.monotonic()
            if left_s <= 0:
                raise SyncFailure(
                    f"git did not answer within {self._timeout_s:g} s",
                    hint=f"`git status` in the same folder shows whether it hangs; {PATH_HINT}",
                )
            for key, _events in self._streams.select(min(left_s, NOTICE_S)):
                _hear(self._streams, key)
        out, said = question.heard.values()
        return Answer(question.process.wait(), b"".join(out), b"".join(said))


def failure(said: str, folder: bytes | None = None) -> RentrollError:
    """What a refusal of git means: in its own words where it is none that we know."""
    told = " ".join(said.split())
    if "dubious ownership" in said or "unsafe repository" in said:
        return SyncFailure(
            "git does not trust this repository: its folder belongs to another user",
            hint="if you do: git config --global --add safe.directory FOLDER",
            next_step=next((line.strip() for line in said.splitlines() if "safe.directory" in line), None),
        )
    if folder is not None and "not a git repository" in said:
        return UsageFailure(f"{shown(folder)} is in no git repository, so it does not say what to copy", hint=PATH_HINT)
    if folder is not None and "work tree" in said:
        return UsageFailure(f"{shown(folder)} is in a git repository without a working tree", hint=PATH_HINT)
    return SyncFailure(f"git could not say what is in the working tree: {told or 'it ended without a word'}")


def _file_of(given: bytes) -> IO[bytes]:
    """A file to read this from, so that git need not be fed while it answers."""
    import tempfile

    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(given)
    file.seek(0)
    return file


def _hear(streams: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    question: Question = key.data
    stream = cast("IO[bytes]", key.fileobj)
    chunk = os.read(key.fd, CHUNK_BYTES)
    if chunk:
        question.heard[stream].append(chunk)
        return
    streams.unregister(key.fileobj)
    stream.close()
    question.open -= 1


def _environment(ceiling: bytes | None) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in MISLEADING and not name.startswith("GIT_TRACE")  # it would talk on stderr
    }
    if ceiling is not None:
        kept["GIT_CEILING_DIRECTORIES"] = os.fsdecode(ceiling)
    quiet = {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1"}
    return {**kept, **quiet}
