"""The options of the command that runs sweeps, from its command line to `Options`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from raycifar.commands.parser import Parser, complete, examples
from raycifar.config.architectures import ARCHITECTURES, OF_LIBRARIES
from raycifar.config.stock_sweeps import default_sweep, stock_sweeps
from raycifar.program import program
from raycifar.tracking.trackers import TRACKERS

if TYPE_CHECKING:
    from raycifar.execution.options import Options
    from raycifar.tracking.json_lines import JsonLines

DESCRIPTION = (
    "Run a sweep: read its file, fetch what it needs, train and test every trial. The same command again resumes."
)
SHARING = "run K trials on each GPU at once; auto: measure how many (default: 1)"
WORKERS = "train each trial with W workers, each on its own GPU (default: 1)"
HANG = "restart a worker that has made no training step for this long (default: %(default)s; not with --local)"
DATA = "read the data set from this folder: cifar-10-batches-py, Fashion-MNIST's four files, or torchvision's folder"
WEIGHTS = "read a network's ImageNet weights from this safetensors file or state dict; repeatable with its NAME="
CODE = "run this Python module, or .py file beside the sweep file, where the sweep names its functions; repeatable"
AS_THEY_ARE = "take --weights also where they seem to expect other pixels, or never to have been trained"
LIST = "list what model.name may be, with size and whether ImageNet weights can be had, and end; PART: of the names"
LIST_DATA = "list what data.name may be, with images, classes, side and whether it is here, and end"
STATUS = "exit status: 0 every trial finished, 1 some did not, 2 bad input, 130 interrupted (the same command resumes)"


def _examples() -> str:
    """In a checkout the stock sweeps are named by their files, as its documents name them."""
    scripts = not program().command
    vgg, quick, search = (f"sweeps/{name}.toml" if scripts else name for name in ("vgg", "quick", "search"))
    rows = (
        ("--gpus 4", f"{vgg} on four GPUs"),
        (quick, "minutes, on a laptop"),
        (f"{vgg} --dry-run", "the plan, and nothing started"),
        ("--only transfer-1 --set epochs=5 --name short", ""),
        ("--log mlflow", "TensorBoard's files, and mlflow.db beside them"),
        ("--json > events.jsonl", "events for a script; the table stays on the terminal"),
        (search, "draw settings, keep the best; needs the extra `search`"),
    )
    return examples(program().line(program().run), rows)


def make_parser() -> Parser:
    parser = Parser(program().run, description=DESCRIPTION, epilog=f"{_examples()}\n\n{STATUS}")
    _add_what_to_run(parser)
    _add_where_to_run(parser)
    _add_what_to_read(parser)
    _add_what_to_show(parser)
    return parser


def _add_what_to_run(parser: Parser) -> None:
    add, known = parser.add_argument, ", ".join(stock_sweeps())
    add(
        "sweep",
        nargs="?",
        default=default_sweep(),
        help=f"sweep file, or the name of a stock sweep: {known} (default: %(default)s)",
    )
    add("--gpus", type=count(0), metavar="N", help="use N GPUs (default: all there are; 0: the CPU)")
    add("--trials-per-gpu", type=sharing, default=1, metavar="K", help=SHARING)
    add("--workers-per-trial", type=count(1), default=1, metavar="W", help=WORKERS)
    add("--name", help="name of the results folder (default: the sweep's name)")
    add("--storage", default="~/ray_results", help="folder to keep the results folder in (default: %(default)s)")
    add("--only", action="append", default=[], metavar="TRIAL", help="run only this trial or arm; repeatable")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting; repeatable")


def _add_where_to_run(parser: Parser) -> None:
    add = parser.add_argument
    add("--local", action="store_true", help="run in this process, one trial at a time, without Ray")
    add("--address", help="use the Ray cluster that runs at this address (default: start Ray on this machine)")
    add("--hang-timeout", type=count(1), default=1800, metavar="SECONDS", help=HANG)
    add("--fresh", action="store_true", help="move earlier results of this name aside and start over")
    add("--dry-run", action="store_true", help="read what is named, show the plan and start nothing")


def _add_what_to_read(parser: Parser) -> None:
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help=DATA)
    add("--weights", action="append", type=own_weights, default=[], metavar="[NAME=]FILE", help=WEIGHTS)
    add("--list-models", nargs="?", const="", metavar="PART", help=LIST)
    add("--list-data", nargs="?", const="", metavar="PART", help=LIST_DATA)
    add("--code", action="append", default=[], metavar="MODULE", help=CODE)
    add("--weights-as-they-are", action="store_true", help=AS_THEY_ARE)


def _add_what_to_show(parser: Parser) -> None:
    add, loudness = parser.add_argument, parser.add_mutually_exclusive_group()
    add("--log", action="append", default=[], choices=sorted(TRACKERS), help="log to this tracker too; repeatable")
    add("--json", action="store_true", help="write events as JSON lines to standard output, all else to standard error")
    loudness.add_argument("--quiet", action="store_true", help="show no progress: only errors, and the final results")
    loudness.add_argument(
        "--verbose", action="store_true", help="also show what Ray and the workers log (not with --local)"
    )


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    complete(make_parser)
    parser = make_parser()
    args = parser.parse_args(arguments)
    named = [name for name, _ in args.weights]
    if twice := next((name for name in named if named.count(name) > 1), None):
        parser.error(f"argument --weights: two files for {twice}: name one")
    if named.count("") > 1:
        parser.error("argument --weights: two files without a network's name: --weights NAME=FILE")
    return args


def own_weights(text: str) -> tuple[str, Path]:
    """An argparse type: the network's name, "" where none is given, and its file."""
    name, equals, file = text.partition("=")
    is_network = name in ARCHITECTURES or OF_LIBRARIES.fullmatch(name)
    return (name, Path(file)) if equals and is_network else ("", Path(text))


def count(least: int) -> Callable[[str], int]:
    """An argparse type: a whole number from `least` up."""

    def whole(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= 100_000:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from {least} up")
        return int(text)

    return whole


def sharing(text: str) -> int | Literal["auto"]:
    """An argparse type: a whole number from 1 up, or "auto"."""
    return "auto" if text == "auto" else count(1)(text)


def sweep_options(args: argparse.Namespace, events: "JsonLines | None") -> "Options":
    """The parsed arguments as the library takes them."""
    from raycifar.execution.options import Options

    weights = dict(args.weights)
    return Options(
        gpus=args.gpus,
        trials_per_gpu=args.trials_per_gpu,
        workers_per_trial=args.workers_per_trial,
        only=tuple(args.only),
        local=args.local,
        address=args.address,
        hang_seconds=args.hang_timeout,
        fresh=args.fresh,
        data=args.data,
        weights=weights.pop("", None),
        weights_of=weights,
        code=tuple(dict.fromkeys(args.code)),
        weights_as_they_are=args.weights_as_they_are,
        source=args.sweep,
        log=tuple(dict.fromkeys(args.log)),
        verbose=args.verbose,
        events=events,
        command=tuple(program().typed()),
    )
