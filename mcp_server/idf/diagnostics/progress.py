"""How far a build is, from ninja's [412/1043] and esptool's percentages."""

import re

from mcp_server.idf.diagnostics.bars import Bars
from mcp_server.idf.diagnostics.finding import tail_of
from mcp_server.idf.diagnostics.text import head
from mcp_server.model import Progress

_STEP = re.compile(rb"\[(\d{1,7})/(\d{1,7})\] (.{0,600})")
_PERCENT = re.compile(rb"\[ {0,2}(\d{1,3})%\] (.{0,600})")  # make, where ninja is absent
_WRITING = re.compile(rb"Writing at (0x[0-9a-fA-F]+)[ .].{0,200}?(\d{1,3})(?:\.\d)? ?%")
_OBJECT = re.compile(
    r"(?:Building|Linking|Compiling) (?P<what>.*?)(?:object|library|executable|dependencies)? ?(?P<path>\S+)$"
)
_SOURCE_OF = re.compile(r"\.(?:obj|o)$")
_SCRIPT = re.compile(r"([\w.-]+\.(?:py|cmake|sh))\b")


class ProgressReader:
    """Follows the outermost ninja: a bootloader's own [1/101] inside the app's [7/1043] is not shown."""

    def __init__(self) -> None:
        self._stack: list[tuple[int, int]] = []
        self._message = b""
        self._percent: tuple[int, bytes] | None = None
        self._bars = Bars()
        self._bar_is_last = False
        self.counted = False
        """A step was told as ninja does, with how many there are."""

    def restart(self) -> None:
        """Another ninja begins."""
        self._stack.clear()
        self._percent = None

    def take_bar(self, line: bytes) -> bool:
        """Whether the line is another tool's progress, shown unless a ninja or make is at work around it."""
        if not self._bars.take(line):
            return False
        self._bar_is_last = True
        return True

    def take_step(self, line: bytes) -> bool:
        """A line that starts with `[`."""
        found = _STEP.match(line)
        if found is None:
            return self._take_percent(line)
        self._bar_is_last, self.counted = False, True
        done, total = int(found[1]), int(found[2])
        stack = self._stack
        self._percent = None
        if len(stack) == 1 and stack[0][1] == total and done >= stack[0][0]:
            stack[0] = (done, total)
            self._message = found[3]
            return True
        if not stack or stack[0] == (0, 1) or stack[0][0] >= stack[0][1]:  # [0/1] is CMake, run first
            stack[:] = [(done, total)]
        else:
            depth = next((i for i, (was, of) in enumerate(stack) if of == total and done >= was), None)
            if depth is not None:
                stack[depth:] = [(done, total)]
            elif done <= 1 and len(stack) < 4:
                stack.append((done, total))
                return True
            elif done >= stack[-1][0]:
                stack[-1] = (done, total)
            else:
                return True
        if len(stack) == 1:
            self._message = found[3]
        return True

    def _take_percent(self, line: bytes) -> bool:
        found = _PERCENT.match(line)
        if found is None:
            return False
        self._bar_is_last = False
        self._stack[:], self._message = [(min(int(found[1]), 100), 100)], found[2]
        return True

    def take_writing(self, line: bytes) -> None:
        if found := _WRITING.search(line):
            self._percent = (min(int(found[2]), 100), found[1])

    @property
    def is_open(self) -> bool:
        """Whether further steps of the outermost ninja or make are to come; CMake, run first, is none of them."""
        return bool(self._stack) and self._stack[0] != (0, 1) and self._stack[0][0] < self._stack[0][1]

    @property
    def finished(self) -> bool:
        """Whether the last step of the outermost ninja or make was seen."""
        return bool(self._stack) and self._percent is None and self._stack[0][0] >= self._stack[0][1]

    @property
    def progress(self) -> Progress | None:
        if self._percent:
            return Progress(done=self._percent[0], total=100, message=f"writing flash at {self._percent[1].decode()}")
        if self._bars.known and (not self._stack or (self._bar_is_last and not self.is_open)):
            return Progress(done=self._bars.done, total=self._bars.total, message=self._bars.message)
        if not self._stack:
            return None
        done, total = self._stack[0]
        return Progress(done=done, total=total, message=short_step(self._message.decode("utf-8", "replace")))


def short_step(step: str) -> str:
    """`Building C object esp-idf/…/gpio.c.obj` → `compiling gpio.c`."""
    step = step.strip()
    if found := _OBJECT.match(step):
        name = tail_of(found["path"])
        if step.startswith(("Building", "Compiling")):
            return f"compiling {_SOURCE_OF.sub('', name)}"
        return f"linking {name}"
    if step.startswith("cd ") or " && " in step:
        scripts = _SCRIPT.findall(step)
        return f"running {scripts[0]}" if scripts else "running a command"
    return head(step[:1].lower() + step[1:], 60)
