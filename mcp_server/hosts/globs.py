"""Which paths a set of globs names: one meaning on every host, whatever its shell or `find` makes of them.

`*`, `?` and `[..]` stay within a name, `**` is any number of folders. A leading dot is matched only by a dot, as in
Python's glob. A pattern that names a folder names all that lies below it.
"""

import re
from collections.abc import Callable, Iterable, Sequence

from mcp_server.errors import BadInput

_MAGIC = re.compile(r"[*?[]")


def split(pattern: str) -> tuple[str, ...]:
    """The parts of a pattern without "." and doubled slashes; BadInput where it could lead out of the tree."""
    parts = tuple(part for part in pattern.split("/") if part not in ("", "."))
    if pattern.startswith("/") or ".." in parts or "\0" in pattern or not pattern:
        raise BadInput("pattern", f"{pattern!r} must be a glob below the folder: no leading '/', no '..'")
    return parts


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a file's path, relative and with "/", is named by one of the patterns."""
    expressions = [_expression(split(pattern)) for pattern in patterns]
    whole = re.compile("|".join(expressions) or r"(?!)", re.DOTALL)
    return lambda path: whole.fullmatch(path) is not None


def _expression(parts: tuple[str, ...]) -> str:
    if not parts:
        return ".+"
    return path_expression(parts) + ("" if parts[-1] == "**" else "(?:/.+)?")


def path_expression(parts: Sequence[str], *, dots: bool = False) -> str:
    """A regular expression for a whole path; with `dots` a leading dot is a letter like others.

    Each "**" but the last stops for good at the first place where the parts up to the next one fit: a later place
    would leave the rest less. So time grows with path times pattern, never with the number of ways to share a path out.
    """
    groups: list[list[str]] = [[]]
    for part in parts:
        if part != "**":
            groups[-1].append(name_expression(part, dots=dots))
        elif len(groups) == 1 or groups[-1]:  # two in a row are as good as one
            groups.append([])
    first, *others = ["/".join(group) for group in groups]
    if not others:
        return first
    name = "[^/]+" if dots else "[^/.][^/]*"
    middle = "".join(f"(?>(?:{name}/)*?{group}/)" for group in others[:-1])
    last = f"(?:{name}/)*?{others[-1]}" if others[-1] else f"(?:{name}/)*{name}"
    return (first and first + "/") + middle + last


def name_expression(part: str, *, dots: bool = False) -> str:
    """A regular expression for one part of a path; with `dots` a leading dot is a letter like others.

    Each "*" but the last stops for good at the first place where the letters up to the next one fit (see above).
    """
    first, *others = _between_stars(part)
    middle = "".join(f"(?>[^/]*?{letters})" for letters in others[:-1] if letters)
    ahead = "" if dots or not _MAGIC.match(part) else r"(?!\.)"
    return ahead + first + middle + (f"[^/]*{others[-1]}" if others else "")


def _between_stars(part: str) -> list[str]:
    """What stands before, between and after the stars, each a regular expression of fixed length."""
    found, at = [""], 0
    while at < len(part):
        letter = part[at]
        end = part.find("]", at + 2 + (part[at + 1 : at + 2] == "!")) if letter == "[" else -1
        if letter == "*":
            found.append("")
        elif letter == "?":
            found[-1] += "[^/]"
        elif end > 0:
            found[-1] += _set(part[at + 1 : end])
            at = end
        else:
            found[-1] += re.escape(letter)
        at += 1
    return found


def _set(inner: str) -> str:
    """`[..]` without its brackets; ranges that run backwards name nothing."""
    negated, inner = inner[0] == "!", inner.removeprefix("!")
    found, at = "", 0
    while at < len(inner):
        if inner[at + 1 : at + 2] == "-" and at + 2 < len(inner):
            if inner[at] <= inner[at + 2]:
                found += f"{re.escape(inner[at])}-{re.escape(inner[at + 2])}"
            at += 3
        else:
            found += re.escape(inner[at])
            at += 1
    if negated:
        return f"(?![{found}/])[^/]" if found else "[^/]"
    return f"(?!/)[{found}]" if found else "(?!)"


def find_words(patterns: Sequence[str]) -> list[str]:
    """Arguments of a `find` that prints at least the files which the patterns name, and goes into few other folders."""
    split_patterns = [split(pattern) for pattern in patterns]
    prefixes = sorted({_prefix(parts) for parts in split_patterns})
    starts = [
        start for start in prefixes if not any(start[: len(other)] == other for other in prefixes if other != start)
    ]
    allowed = sorted({shape for parts in split_patterns for shape in _shapes(parts)})
    keep = [word for shape in allowed for word in ("-o", "-path", shape)][1:]
    return [
        *("/".join((".", *start)) for start in starts),
        *("(", "-type", "d", "!", "(", *keep, ")", "-prune", ")", "-o"),
        *("(", "-type", "f", "-o", "-type", "l", ")", "-print0"),
    ]


def _prefix(parts: tuple[str, ...]) -> tuple[str, ...]:
    magic = [at for at, part in enumerate(parts) if _MAGIC.search(part)]
    return parts[: magic[0]] if magic else parts


def _shapes(parts: tuple[str, ...]) -> list[str]:
    """Of all folders that may hold a match, a coarse form: in `find` "*" means slashes, too."""
    shapes, path = ["."], "."
    for part in parts:
        if part == "**":
            break
        path += "/" + re.sub(r"[*?[\\].*", "*", part, flags=re.DOTALL)
        shapes.append(path)
    return [*shapes, path + "/*"]
