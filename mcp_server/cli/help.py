"""How `--help` looks. Ours rather than the parser's, whose own changes with its versions and shows hidden arguments."""

from typing import Any

from typer.core import TyperCommand


class HelpfulCommand(TyperCommand):
    """A command whose help shows arguments as they are typed: `logs [OPTIONS] BUILD [STAGE]`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["[OPTIONS]", *(_typed(param) for param in _arguments(self, ctx))]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        arguments = [(str(param.metavar), str(param.help)) for param in _arguments(self, ctx)]
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl(arguments)
        format_options(self, ctx, formatter)


def format_options(command: Any, ctx: Any, formatter: Any) -> None:
    """The options of a command, its defaults where they tell something."""
    options = [param for param in command.get_params(ctx) if param.param_type_name == "option" and not param.hidden]
    with formatter.section("Options"):
        formatter.write_dl([(_names(option), _meaning(option)) for option in options])


def _arguments(command: Any, ctx: Any) -> list[Any]:
    return [param for param in command.get_params(ctx) if param.param_type_name == "argument" and not param.hidden]


def _typed(argument: Any) -> str:
    if argument.nargs == -1:
        return f"[{argument.metavar}...]"
    return str(argument.metavar) if argument.required else f"[{argument.metavar}]"


def _names(option: Any) -> str:
    names = ", ".join(sorted(option.opts, key=len))
    return names if option.is_flag else f"{names} {option.metavar}"


def _meaning(option: Any) -> str:
    return (
        f"{option.help}  [default: {option.default}]" if option.default not in (None, False, "") else str(option.help)
    )
