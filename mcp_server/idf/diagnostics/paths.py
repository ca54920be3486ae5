"""Shortens the paths of a log: relative to the project, IDF/… inside ESP-IDF, c++/… in the compiler's headers."""

import os
import posixpath
import re
from pathlib import Path

_PROJECT = (
    re.compile(r'Executing "cmake .{0,4000} "?(?P<root>/[^"]{1,400}?)"?"?\.\.\.$'),
    re.compile(r"cmake(?:\.exe)? --regenerate-during-build -S(?P<root>\S{1,400}) -B"),
    re.compile(r"-- Project sdkconfig file (?P<root>/.{1,400})/[^/]+$"),
    re.compile(r"output of the command is in the (?P<root>/.{1,400}?)/build[^/]*/log/idf_py_"),
    re.compile(r"Running (?:ninja|cmake|make) in directory (?P<root>/.{1,400}?)/build[^/]*$"),
)
_BUILD = re.compile(
    r"(?:Running (?:ninja|cmake|make) in directory |Build files have been written to: )(?P<root>/.{1,400})$"
)
_IDF_MARKS = ("/tools/cmake/", "/tools/ldgen/", "/tools/idf.py", "/tools/idf_", "/tools/kconfig")
_PATH_START = " \"'=;:(<"
_IDF_NAMED = re.compile(r"^.{0,300}?/(?:esp-idf|idf)(?:-v[\d.]+|-release[^/]*)?/(?=components/|tools/)")
_CXX = re.compile(r"^.{0,400}/(c\+\+/.+)$")
_TOOLCHAIN = re.compile(r"^.{0,300}/(?:tools|lib/gcc|lib/clang)/.{0,300}/(?:sys-)?include/(.+)$")
_GUESS = re.compile(r"^((?:[A-Za-z]:)?/.{1,300}?)/(?:main|components|managed_components)/")
LEARN_FROM = ("Running ", "Executing ", "-- Project sdkconfig", "-- Build files", "Building in")


def plain(path: str) -> str:
    path = path.replace("\\", "/")
    return posixpath.normpath(path) if path else path


class Paths:
    """Where the project, its build directory and ESP-IDF lie: from the caller, from the log, or by their shape."""

    def __init__(self, project: Path | str | None = None, idf_path: str | None = None) -> None:
        self.projects: list[str] = []
        self.idfs: list[str] = []
        self.builds: list[str] = []
        if project:
            self._know(self.projects, str(Path(project).absolute()))
            self._know(self.projects, os.path.realpath(project))
        if idf_path:
            self._know(self.idfs, idf_path)

    @property
    def idf(self) -> str | None:
        """ESP-IDF's root, if one is known."""
        return self.idfs[0] if self.idfs else None

    def learn(self, line: str) -> None:
        """Take over a root that the line names."""
        for pattern in _PROJECT:
            if found := pattern.search(line):
                self._know(self.projects, found["root"])
        if found := _BUILD.search(line):
            self._know(self.builds, found["root"])
        for mark in _IDF_MARKS:
            if (end := line.find(mark)) > 0:
                start = 1 + max(line.rfind(c, 0, end) for c in _PATH_START)
                self._know(self.idfs, line[start:end])

    def guess(self, path: str) -> None:
        """Where no root is known, main/ and components/ of a path show it."""
        path = plain(path)
        if not self.projects and not self._owner(path)[0] and (found := _GUESS.match(path)):
            self._know(self.projects, found[1])

    def in_project(self, path: str) -> bool:
        path = plain(path)
        owner, _ = self._owner(path)
        return owner == "project" or (not owner and path[:1] != "/" and path[1:2] != ":")

    def short(self, path: str) -> str:
        """The path as a reader of this project would write it."""
        path = plain(path)
        owner, rest = self._owner(path)
        if owner:
            return rest
        while path.startswith("../"):
            path = path[3:]  # relative to the build directory
        return path

    def shorten_in(self, text: str) -> str:
        """The text with the roots of all paths in it cut off."""
        for root in self.projects:
            text = text.replace(root + "/", "")
        for root in self.idfs:
            text = text.replace(root + "/", "IDF/")
        return text

    def _owner(self, path: str) -> tuple[str, str]:
        """Whose path it is, and how to write it. An example inside ESP-IDF occurs, and ESP-IDF inside a project."""
        best, owner, prefix = "", "", ""
        for name, shown, roots in (
            ("build", "build/", self.builds),
            ("project", "", self.projects),
            ("idf", "IDF/", self.idfs),
        ):
            for root in roots:
                if len(root) >= len(best) and path.startswith(root + "/"):
                    best, owner, prefix = root, name, shown
        if owner:
            return owner, prefix + path[len(best) + 1 :]
        if found := _IDF_NAMED.match(path):
            return "idf", "IDF/" + path[found.end() :]
        found = _CXX.match(path) or _TOOLCHAIN.match(path)
        return ("toolchain", found[1]) if found else ("", path)

    @staticmethod
    def _know(roots: list[str], root: str) -> None:
        root = plain(root).rstrip("/")
        if root and root not in roots and len(roots) < 4:
            roots.append(root)
