"""Searches a log in a process of its own: a pattern may take for ever on an unlucky line, and a process can be killed.

Run as a program: the pattern and the most bytes of the answer as arguments, the log's text on stdin. Prints the count
of matching lines, the count of all, and the first matching lines that fit, with their numbers. With `numbered` as third
argument some lines only are on stdin, as `NUMBER:LINE`; `=COUNT` follows them.
"""

import re
import sys

SHOWN = 300  # letters of a matching line


def window(line: str, match: "re.Match[str]") -> str:
    """The match and what stands around it: a compiler's command line would fill the answer."""
    if len(line) <= SHOWN:
        return line
    start = max(0, min(match.start() - SHOWN // 3, len(line) - SHOWN))
    end = start + SHOWN
    return ("…" if start else "") + line[start:end] + ("…" if end < len(line) else "")


def main() -> None:
    pattern, most = re.compile(sys.argv[1]), int(sys.argv[2])
    numbered = sys.argv[3:] == ["numbered"]
    kept: list[str] = []
    size = hits = number = 0
    for raw in sys.stdin.buffer:
        line = raw.decode("utf-8", "replace").rstrip("\n")
        if numbered:
            if line.startswith("="):
                number = int(line[1:])
                break
            count, _, line = line.partition(":")
            number = int(count)
        else:
            number += 1
        match = pattern.search(line)
        if match is None:
            continue
        hits += 1
        shown = f"{number}: {window(line, match)}"
        size += len(shown.encode()) + 1
        if size <= most:
            kept.append(shown)
    sys.stdout.buffer.write("\n".join([f"{hits} {number}", *kept]).encode())


if __name__ == "__main__":
    main()
