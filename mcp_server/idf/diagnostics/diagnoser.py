"""Reads a log as it grows and says at the end what went wrong."""

from collections import deque
from pathlib import Path

from mcp_server.idf.diagnostics import (
    bitbake,
    cmake,
    compiler,
    idfpy,
    kconfig,
    linker,
    ninja,
    pytests,
    python,
    rust,
    steps,
)
from mcp_server.idf.diagnostics.finding import Block, Finding, FollowBlock, Place, Rank
from mcp_server.idf.diagnostics.generic import plain_error, states_error
from mcp_server.idf.diagnostics.hints import Hints
from mcp_server.idf.diagnostics.lines import Lines
from mcp_server.idf.diagnostics.paths import LEARN_FROM, Paths
from mcp_server.idf.diagnostics.progress import ProgressReader
from mcp_server.idf.diagnostics.rules import hot, match
from mcp_server.idf.diagnostics.text import decode, strip_escapes, strip_margin
from mcp_server.idf.diagnostics.verdict import Reading, conclude
from mcp_server.model import Diagnosis, Progress

SLICE_BYTES = 262_144  # a larger chunk is read in slices, so that memory stays flat
MAX_REMARKS = 20
MAX_LETTERS = 6_000  # of a line that a reader sees; C++ messages may be this long
_HARMLESS = (b"NOTE: Status", b"NOTE: Kconfig", b"fatal: not a git repository")  # printed by builds that succeed
_LOOKED_AT = frozenset(bytes([letter]) for letter in b" 0123456789NCcSRPILUr#<=")  # starts of lines that bars.py knows
_MARGINS = (b"2", b">", b".")
_NEED_COMMAND = ("killed", "crash", "tool", "permission")  # their messages do not say what was run
_FOREIGN = ("make", "bitbake", "cargo", "test", "configure")  # kinds of tools that no idf.py runs
_LEARN = tuple(word.encode() for word in LEARN_FROM)


class Diagnoser:
    """One run's output, stdout and stderr in order. `feed` any chunks, then `finish` once."""

    def __init__(
        self, project: Path | str | None = None, hints: Hints | None = None, idf_path: str | None = None
    ) -> None:
        self.includes: list[Place] = []
        self.required: list[Place] = []
        self.function = ""
        self.current: Finding | None = None
        self._project = Path(project) if project else None
        self._hints = hints
        self._idf_path = idf_path
        self._read = Reading(Paths(project, idf_path))
        self._lines = Lines()
        self._step: steps.Step | None = None
        self._expect_command = False
        self._number = 0
        self._found_in_step = False
        self._since: deque[bytes] = deque(maxlen=12)
        self._block: Block | None = None
        self._progress = ProgressReader()
        self._acts = False  # idf.py said which action it runs
        self._done = False
        self._ended: bool | None = None
        self._building = ""  # the directory that the running ninja or cmake works in
        self._is_hot = hot().search
        self._tests = pytests.TestRun()
        self._quoted = ""  # the bitbake task that lines after `| ` are of
        self._most = 0
        self._final: tuple[int, int] | None = None

    @property
    def progress(self) -> Progress | None:
        """How far the build is, with the counts so far; None before the first step, error and warning.

        The errors never become fewer while the log is read; after `finish` both are the diagnosis's own.
        """
        step = self._progress.progress
        self._most = max(self._most, self.error_count)
        errors, warnings = self._final or (self._most, self.warning_count)
        if step is None:
            return Progress(errors=errors, warnings=warnings) if errors or warnings else None
        return step.model_copy(update={"errors": errors, "warnings": warnings})

    @property
    def ran_ninja(self) -> bool:
        """Whether steps were counted as ninja does."""
        return self._progress.counted

    @property
    def error_count(self) -> int:
        """So far; failed tests count from their first letter on."""
        return self._read.found.count + self._tests.open

    @property
    def warning_count(self) -> int:
        return self._read.warnings

    @property
    def ended(self) -> bool | None:
        """After `finish`: True, the end of a success was seen, or exit code 0; False, a failure; None, neither.

        None is a log that stops in the middle, or none of a build: nobody can say how that build ended.
        """
        return self._ended

    def feed(self, data: bytes) -> None:
        """Read on. Chunks may be cut anywhere."""
        for start in range(0, len(data), SLICE_BYTES):
            for line in self._lines.feed(data[start : start + SLICE_BYTES]):
                self._take(line)

    def finish(self, exit_code: int | None = None) -> Diagnosis:
        """The diagnosis. An exit code of 0 means no errors, whatever was printed; None: judge by the log alone."""
        for line in self._lines.end():
            self._take(line)
        self._close_block()
        self._tests.end(self)
        diagnosis = self._conclude(exit_code)
        self._final = (diagnosis.error_count, diagnosis.warning_count)
        return diagnosis

    def _conclude(self, exit_code: int | None) -> Diagnosis:
        if exit_code == 0:
            self._ended = True
            return Diagnosis(warning_count=self._read.warnings, warnings=self._read.told_warnings())
        hints = self._hints if self._hints is not None else Hints.load(self._idf_path or self._read.paths.idf)
        self._read.complete |= self._done
        diagnosis = conclude(self._read, exit_code, hints, self._project)
        if exit_code is not None or diagnosis.errors:
            self._ended = False
        elif self._read.complete or self._progress.finished:
            self._ended = True
        return diagnosis

    # What readers report (finding.Log)

    def add(self, finding: Finding) -> None:
        finding.step = self._number
        if (
            self._step is not None
            and finding.file is None
            and not finding.subject
            and finding.kind not in ("link", "ninja", "cmake")
        ):
            finding.subject = self._step.subject
        if finding.kind in _NEED_COMMAND and self._step is not None and not self._step.is_compile:
            finding.notes.append(f"\0\0by: {self._step.command}")
        if self._quoted and finding.kind in ("compile", "link", "cmake", "make"):
            finding.notes.append(f"\0\0in {self._quoted}")
        if finding.kind in _FOREIGN and not self._acts:
            self._read.foreign = True
        if finding.rank <= Rank.STATED:
            self._done = False
        if finding.rank <= Rank.RESULT:
            self._found_in_step = True
            if self._step is not None:
                self._step.explained = True
        self._read.found.add(finding)

    def warn(self, times: int = 1, what: Finding | None = None) -> None:
        self._read.warnings += times
        if what is not None:
            self._read.keep_warning(what)

    def hint(self, text: str) -> None:
        if len(self._read.hints) < 8:
            self._read.hints[text] = None

    def remark(self, text: str) -> None:
        if len(self._read.remarks) < MAX_REMARKS:
            self._read.remarks[text[:300]] = None

    def failed(self) -> None:
        self._read.failed_in.add(self._building)

    # One line

    def _take(self, raw: bytes) -> None:
        line = strip_escapes(raw) if b"\x1b" in raw else raw
        if line[:1] in _MARGINS or line[:2] == b"[2":
            line = strip_margin(line)
        if self._quoted and line[:1] == b"|":
            line = line[2:]
        if self._block is not None:
            text = decode(line[:MAX_LETTERS])
            if self._block.take(text, raw):
                return
            self._close_block()
        first = line[:1]
        if first == b"[" and self._take_bracket(line):
            return
        if first == b"-" and line.startswith(b"-- ") and not line.startswith(b"-- Configuring incomplete"):
            if line.startswith(_LEARN):
                self._read.paths.learn(decode(line[:MAX_LETTERS]))
            return
        if (first in _LOOKED_AT or line[-2:] == b"%]") and self._take_look(line):
            return
        if self._expect_command:
            self._expect_command = False
            text = decode(line[:MAX_LETTERS])
            if self._step is not None and self._step.take_command(text):
                self._read.paths.learn(text[:1000])
                return
        if self._is_hot(line):
            self._take_hot(line, raw)
        else:
            self._take_plain(line)

    def _take_look(self, line: bytes) -> bool:
        """A bar, or what pytest draws: its dots, its words with percents, its titles."""
        if self._progress.take_bar(line):
            if line[-2:] == b"%]":
                self._tests.announce(decode(line[-1000:]))
            return True
        if line[:1] != b"=" or line[-1:] != b"=":
            return False
        block = pytests.read(decode(line[:400]), self, self._tests)
        self._block = block if not isinstance(block, bool) else None
        return block is not False

    def _take_bracket(self, line: bytes) -> bool:
        if self._progress.take_step(line):
            self._end_step()
            return True
        if line.startswith(b"[gw") and self._progress.take_bar(line):
            self._tests.announce(decode(line[:1000]))
            return True
        if line.startswith(b'[{"'):
            return compiler.read_json(decode(line), self)
        return line == b"[]"

    def _take_plain(self, line: bytes) -> None:
        if not line:
            return
        if line.startswith(_LEARN):
            self._announced(decode(line[:MAX_LETTERS]))
            return
        if b"%[" in line and self._progress.take_bar(line):  # wget's
            return
        if line.startswith(b"Writing at"):
            self._progress.take_writing(line)
            return
        if line.startswith(b"Project build complete"):
            self._completed()
        elif line == b"Done" and self._acts:  # idf.py's own last word; a script may say it, too
            self._done = not self._read.failed_in
        self._keep(line)

    def _take_hot(self, line: bytes, raw: bytes) -> None:
        if line.startswith((b'{"$schema"', b'{"version"', b'{"runs"')) and compiler.read_json(decode(line), self):
            return
        if line.startswith(_HARMLESS):
            return
        text = decode(line if len(line) <= MAX_LETTERS else line[: MAX_LETTERS - 1000] + line[-1000:])
        if text.startswith("FAILED: ") and (parsed := steps.parse(text)):
            self._begin_step(*parsed)
            return
        if text.startswith(LEARN_FROM):
            self._announced(text)
            return
        if text.startswith(("ERROR: ", "WARNING: ", "Log data")) and (task := bitbake.read(text, self)) is not None:
            self._quoted = self._quoted if task == "\n" else task
            return
        result = (
            rust.read(text, self)
            or idfpy.read(text, raw, self)
            or cmake.read(text, self)
            or ninja.read(text, self)
            or kconfig.read(text, self)
            or python.read(text, self)
            or compiler.read(text, self)
            or linker.read(text, self)
        )
        if result is not False:
            self._block = result if not isinstance(result, bool) else None
            if text.startswith("CMake "):
                self._read.paths.learn(text[:600])
            return
        self._take_by_rule(text, line)

    def _take_by_rule(self, text: str, line: bytes) -> None:
        if text.startswith(("NOTE: ", "INFO: ")):
            return
        if ": warning: " in text[:400] or text.startswith(("warning: ", "WARNING: ", "Warning: ")):
            if not text.startswith("WARNING: ") and not rust.is_summary(text):
                self.warn(1, Finding("warning", text[:600].partition("arning: ")[2] or text[:600]))
            return
        if text == "ninja: no work to do." and not self._progress.is_open:  # an inner ninja says it, too
            self._done = not self._read.failed_in
        if matched := match(text):
            rule, finding = matched
            if rule.follow:
                self._block = FollowBlock(self, rule, finding)
            else:
                self.add(finding)
            return
        if text.startswith("error: ") and (block := rust.maybe(text, self)) is not None:
            self._block = block
            self._keep(line)
            return
        if states_error(text):
            self.add(Finding("unknown", plain_error(text), Rank.STATED, raw=text))
        self._keep(line)

    def _keep(self, line: bytes) -> None:
        """A line that nobody knows may be all there is in the end."""
        self._read.tail.append(line[:400])
        if self._step is not None:
            self._step.add(line[:400])
        else:
            self._since.append(line[:400])

    def _announced(self, line: str) -> None:
        self._read.paths.learn(line)
        if line.startswith("Executing action:"):
            # In a file, idf.py's own lines may come after the error output of what they announce, so that the first
            # one proves nothing. Between two of them lies an earlier action, but it only goes behind, for that reason.
            if self._acts and not self._read.failed_in:
                self._read.found.set_back()
            self._acts = True
        if line.startswith("Running "):
            self._done = False
            self._building = line.partition(" in directory ")[2]
            self._progress.restart()
            self._end_step()

    def _completed(self) -> None:
        """`Project build complete`: what failed in the same directory before was mended since."""
        self._read.complete = True
        self._read.failed_in.discard(self._building)
        if not self._read.failed_in:
            self._read.found.clear()
            self._read.steps.clear()

    def _begin_step(self, outputs: str, code: int | None) -> None:
        self.failed()
        self._forget_context()
        self._number += 1
        self._step = steps.Step(self._number, outputs, code, list(self._since), self._found_in_step)
        self._since.clear()
        self._found_in_step = False
        self._expect_command = True
        if len(self._read.steps) < steps.MAX_STEPS:
            self._read.steps.append(self._step)

    def _end_step(self) -> None:
        self._number += 1
        self._step = None
        self._found_in_step = False
        if self._since:
            self._since.clear()
        if self.includes or self.required or self.function or self.current:
            self._forget_context()

    def _forget_context(self) -> None:
        self.includes, self.required, self.function, self.current = [], [], "", None

    def _close_block(self) -> None:
        if self._block is not None:
            block, self._block = self._block, None
            block.close()
