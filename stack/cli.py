"""The console command: labelspan lab | run | exec | check, and the words that packages bring."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stack.config import Config
from stack.events import InterfaceKind

__all__ = ["main"]

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  (argparse has no public name for it)

EXIT_FAILED, EXIT_CONFIG, EXIT_PRIVILEGE = 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 well, 1 failed, 2 wrong usage or configuration, 3 a privilege or kernel feature is missing."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    from stack.origin import IntruderError, check_origin

    parser, commands = _parser()
    try:
        if _for_packages(given, commands.choices):
            check_origin()
            _add_words(commands)
        options = parser.parse_args(given)
        check_origin()
        code: int = options.run(options)
        sys.stdout.flush()
    except IntruderError as error:
        print(f"labelspan: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has had enough (`| head`). What is left in the buffer must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


class _Version(argparse.Action):
    """The version, looked up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_rest: Any) -> None:
        from stack.show import installed_version

        print(f"labelspan {installed_version()}")
        parser.exit()


def _for_packages(given: Sequence[str], own: Iterable[str]) -> bool:
    """Whether the packages' words are needed: for help, and for a word that is none of `own`. Loading the packages takes longer
    than most of our own words do."""
    word = next((one for one in given if not one.startswith("-")), None)
    return word not in own if word is not None else any("--help".startswith(one) or one == "-h" for one in given)


def _add_words(commands: _Commands) -> None:
    from stack.registry import load_specs

    for spec in load_specs():
        for word in spec.words:
            parser = commands.add_parser(word.name, help=word.help, description=word.help)
            word.add(parser)
            parser.set_defaults(run=word.run)


def _parser() -> tuple[argparse.ArgumentParser, _Commands]:
    parser = argparse.ArgumentParser(prog="labelspan", description="MPLS VPN over mGRE, in pure Python")
    parser.add_argument("--version", action=_Version, nargs=0, help="what is installed here")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    lab = commands.add_parser("lab", help="a whole topology, checked end to end")
    lab.add_argument("name", help="a scenario that comes with labelspan (mgre, ipsec, flexvpn), or a folder with one")
    lab.add_argument("--backend", choices=("auto", "netns", "memory"), default="auto")
    lab.add_argument("--keep", action="store_true", help="leave the topology running until Ctrl-C")
    lab.add_argument(
        "--capture", type=Path, metavar="DIR", help="write what crosses the links (lab.pcapng), and every key (profile)"
    )
    lab.add_argument("--json", action="store_true")
    lab.add_argument("--sabotage", metavar="NAME", help="break one thing on purpose; its row must turn red")
    lab.add_argument("--variant", metavar="NAME", help="conduct this variant alone ('' is the scenario itself)")
    lab.set_defaults(run=_lab)
    run = commands.add_parser("run", help="run one node from its configuration")
    run.add_argument("file", type=Path)
    run.add_argument("--name", help="node name, for its control socket (default: its hostname)")
    run.add_argument("--bind", action="append", default=[], metavar="INTERFACE=DEVICE")
    run.add_argument("--state", type=Path, metavar="DIR")
    run.add_argument("--control", type=Path, metavar="SOCKET")
    run.add_argument("--metrics", metavar="ADDR:PORT", help="serve Prometheus metrics there")
    run.add_argument("--key-log", type=Path, metavar="DIR", help="write EVERY KEY of the node there, for Wireshark")
    run.add_argument("--log-json", action="store_true")
    run.set_defaults(run=_run)
    ask = commands.add_parser("exec", help="ask a running node")
    where = ask.add_mutually_exclusive_group(required=True)
    where.add_argument("--name")
    where.add_argument("--control", type=Path, metavar="SOCKET")
    ask.add_argument("commands", nargs="+", metavar="COMMAND")
    ask.add_argument("--json", action="store_true")
    ask.set_defaults(run=_exec)
    check = commands.add_parser("check", help="look for faults in a configuration, without starting it")
    check.add_argument("file", type=Path)
    check.add_argument("--json", action="store_true")
    check.set_defaults(run=_check)
    return parser, commands


def _read(path: Path) -> Config | None:
    """The configuration, with its doubts said; None after its faults were printed."""
    from stack.ios.check import doubts, read_file, refusals
    from stack.ios.faults import ConfigError

    try:
        reading = read_file(path)
    except OSError as error:
        print(f"labelspan: {path}: {error.strerror}", file=sys.stderr)
        return None
    except ConfigError as error:
        print(error, file=sys.stderr)
        return None
    refused = refusals(path, reading)
    for line in (*refused, *doubts(path, reading)):
        print(line, file=sys.stderr)
    return None if refused else reading.config


def _lab(options: argparse.Namespace) -> int:
    from stack.lab.run import run_lab

    return run_lab(
        options.name,
        backend=options.backend,
        keep=options.keep,
        capture=options.capture,
        as_json=options.json,
        sabotage=options.sabotage,
        variant=options.variant,
    )


def _run(options: argparse.Namespace) -> int:
    from stack.daemon import Daemon

    config = _read(options.file)
    if config is None:
        return EXIT_CONFIG
    try:
        bindings = _bindings(options.bind, config)
        metrics = _endpoint(options.metrics)
    except ValueError as error:
        print(f"labelspan: {error}", file=sys.stderr)
        return EXIT_CONFIG
    daemon = Daemon(
        options.file,
        config,
        bindings=bindings,
        name=options.name or config.node.hostname,
        control=options.control,
        state=options.state,
        log_json=options.log_json,
        metrics=metrics,
        key_log=options.key_log,
    )
    return daemon.run()


def _endpoint(text: str | None) -> tuple[str, int] | None:
    """Where metrics are to be served. Raises ValueError."""
    if text is None:
        return None
    from stack.metrics import parse_endpoint

    return parse_endpoint(text)


def _bindings(wanted: Iterable[str], config: Config) -> Mapping[str, str]:
    """Interface -> device. Raises ValueError for one that would bind nothing."""
    from stack.ios.interfaces import interface_name

    able = [
        name
        for name, interface in config.node.interfaces.items()
        if interface.kind is InterfaceKind.ETHERNET and not interface.parent
    ]
    found: dict[str, str] = {}
    for binding in wanted:
        text, equals, device = binding.partition("=")
        if not (text and equals and device):
            raise ValueError(f"--bind {binding!r}: INTERFACE=DEVICE expected, e.g. Ethernet0/0=eth0")
        try:
            name = interface_name(text)
        except ValueError as error:
            raise ValueError(f"--bind {binding!r}: {error}") from None
        if name not in able:
            has = ", ".join(able) or "none"
            raise ValueError(f"--bind {binding!r}: there is no {name} that takes a device; there are: {has}")
        found[name] = device
    return found


def _exec(options: argparse.Namespace) -> int:
    from stack.control import ControlError, default_socket, request

    path = options.control or default_socket(options.name)
    try:
        replies = asyncio.run(request(path, options.commands))
    except ControlError as error:
        print(f"labelspan: {error}", file=sys.stderr)
        return EXIT_FAILED
    for command, reply in zip(options.commands, replies, strict=True):
        if not reply["ok"]:
            wrong = str(reply["error"])  # what is wrong with the words shows them, with a caret
            print(wrong if wrong.startswith(f"{command}\n") else f"{command}: {wrong}", file=sys.stderr)
        elif not options.json:
            if len(replies) > 1:
                print(f"# {command}")
            print(reply["text"])
    if options.json:
        # One value a command, in their order; null for one that failed.
        values: list[Any] = [reply["value"] if reply["ok"] else None for reply in replies]
        print(json.dumps(values[0] if len(values) == 1 else values, indent=2))
    return 0 if all(reply["ok"] for reply in replies) else EXIT_FAILED


def _check(options: argparse.Namespace) -> int:
    from stack.ios.check import check_file

    return check_file(options.file, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
