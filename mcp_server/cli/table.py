"""Tables without frames: columns that fit the terminal, the least needed ones left out where it is narrow."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A column. The highest `spare` is left out first; 0 never. One that `shrinks` is cut to `least` before that."""

    title: str
    spare: int = 0
    shrinks: bool = False
    least: int = 8
    right: bool = False


def table_lines(columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int | None) -> list[Text]:
    """A head and the rows, as wide as their content and at most `width`; None: whatever it takes."""
    shown = list(range(len(columns)))
    wide = [max([len(column.title), *(row[i].cell_len for row in rows)]) for i, column in enumerate(columns)]
    while width is not None and _total(wide, shown) > width:
        over = _total(wide, shown) - width
        elastic = [i for i in shown if columns[i].shrinks and wide[i] > columns[i].least]
        spare = [i for i in shown if columns[i].spare]
        if elastic:
            widest = max(elastic, key=lambda i: wide[i])
            wide[widest] = max(columns[widest].least, wide[widest] - over)
        elif spare:
            shown.remove(max(spare, key=lambda i: columns[i].spare))
        else:
            break
    head = [Text(column.title, "dim") for column in columns]
    return [_line([_cell(line[i], wide[i], columns[i]) for i in shown], width) for line in (head, *rows)]


def _total(wide: Sequence[int], shown: Sequence[int]) -> int:
    return sum(wide[i] for i in shown) + len(GAP) * (len(shown) - 1)


def _cell(text: Text, wide: int, column: Column) -> Text:
    cell = text.copy()
    cell.truncate(wide, overflow="ellipsis", pad=not column.right)
    if column.right:
        cell.pad_left(wide - cell.cell_len)
    return cell


def _line(cells: Sequence[Text], width: int | None) -> Text:
    line = Text(GAP).join(cells)
    line.rstrip()
    if width is not None:
        line.truncate(width, overflow="ellipsis")
    return line
