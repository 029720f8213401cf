"""The command `raycifar`: its sub-commands, and how each line names the commands that the user may type."""

import io
import os
import re
import subprocess
import sys
from importlib.metadata import version
from types import SimpleNamespace

import pytest

import raycifar.execution.sweep
from raycifar.commands import analyze, main, next_steps, run_options, run_sweep
from raycifar.config.names import NAME_RULE, SpecError
from raycifar.program import Program, called_as, program
from tests.support.paths import ROOT

CALLS = ["raycifar", "python -m raycifar"]  # how the installed command can be typed


@pytest.fixture
def call(capsys, no_leaving):
    """Calls the command in this process; returns its exit status, what it printed, and its errors."""

    def called(*arguments, command="raycifar"):
        try:
            status = main.main(list(arguments), command)
        except SystemExit as left:
            status = left.code
        return status, *capsys.readouterr()

    return called


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_alone_it_says_what_there_is(call, arguments):
    status, printed, errors = call(*arguments)
    assert (status, errors) == (0, "")
    assert printed.startswith("usage: raycifar [-h] [--version] COMMAND ...\n")
    assert re.findall(r"^    (\w+) +\w", printed, re.MULTILINE) == ["run", "analyze"]
    assert "raycifar run quick" in printed


def test_it_says_its_version(call):
    assert call("--version") == (0, f"raycifar {version('raycifar')}\n", "")


@pytest.mark.parametrize("command", CALLS)
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["rum"], "{}: 'rum': no such command, did you mean 'run'? (--help shows what there is)"),
        (["sweep"], "{}: 'sweep': no such command (--help shows what there is)"),
        (["a\nb"], r"{}: 'a\nb': no such command (--help shows what there is)"),
        (["--quiet"], "{}: unrecognized arguments: --quiet (--help shows what there is)"),
        (
            ["run", "--stroage"],
            "{} run: unrecognized arguments: --stroage, did you mean '--storage'? (--help shows what there is)",
        ),
        (["run", "nowhere.toml"], "{} run: nowhere.toml: no such file; see the examples in sweeps/"),
        (["run", "quick", "--name=a/b"], "{} run: --name 'a/b': " + NAME_RULE),
        (["analyze"], "{} analyze: the following arguments are required: FOLDER (--help shows what there is)"),
        (["analyze", "nowhere"], "{} analyze: nowhere: no such folder; give the one that {} run wrote"),
    ],
)
def test_a_mistake_is_refused_in_one_line_that_begins_with_what_was_typed(call, command, arguments, line):
    status, printed, errors = call(*arguments, command=command)
    assert (status, printed) == (2, "")
    assert errors == line.replace("{}", command) + "\n"


@pytest.mark.parametrize(("command", "make"), [("run", run_options.make_parser), ("analyze", analyze.make_parser)])
def test_a_sub_command_has_the_options_of_its_script(call, command, make):
    def options(text):
        return text.partition("options:")[2].partition("examples:")[0]

    printed = call(command, "--help")[1]
    assert printed.startswith(f"usage: raycifar {command} ")
    assert options(printed) == options(make().format_help())
    assert printed.count(f"  raycifar {command} ") >= 4
    assert ".py" not in printed.partition("examples:")[2]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("raycifar ", ["--help", "--version", "-h", "analyze", "run"]),
        ("raycifar run --lo", ["--local", "--log"]),
        ("raycifar analyze --wa", ["--watch"]),
    ],
)
def test_a_shell_gets_completions(tmp_path, typed, offered):
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": typed, "COMP_POINT": str(len(typed)), "_ARGCOMPLETE_IFS": " "}
    into = {"_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer")}
    subprocess.run([sys.executable, "-m", "raycifar"], cwd=ROOT, env=os.environ | asked | into, check=True)
    assert sorted((tmp_path / "answer").read_text().split()) == offered


def test_its_module_is_marked_for_argcompletes_search_of_all_commands():
    assert "PYTHON_ARGCOMPLETE_OK" in (ROOT / "raycifar/commands/main.py").read_text()[:1024]


def test_it_starts_at_once_for_it_imports_nothing_heavy():
    code = (
        "import sys; from raycifar.commands.main import main; main([])\n"
        "print('loaded:', sorted({'torch', 'ray', 'numpy', 'pandas', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loaded: []\n")


# What to type next ---------------------------------------------------------------------------------------------------

WAYS = {  # what the process was called with: the program's `command`, sys.argv
    "": ["run_sweep.py", "quick", "--local"],
    "raycifar": ["/somewhere/bin/raycifar", "run", "quick", "--local"],
    "python -m raycifar": ["/somewhere/raycifar/__main__.py", "run", "quick", "--local"],
}
RUN = {"": "python run_sweep.py", "raycifar": "raycifar run", "python -m raycifar": "python -m raycifar run"}
ANALYZE = {"": "python analyze.py", "raycifar": "raycifar analyze", "python -m raycifar": "python -m raycifar analyze"}


@pytest.fixture(params=WAYS, ids=lambda command: command or "scripts")
def way(request, monkeypatch):
    """Each way in which the commands can be called, as if this process had been."""
    monkeypatch.setattr(sys, "argv", WAYS[request.param])
    with called_as(request.param):
        yield request.param


def test_what_was_typed_is_told_as_it_was(way):
    assert next_steps.again() == f"{RUN[way]} quick --local"


def test_what_has_begun_goes_on_without_fresh(way):
    sys.argv = [*sys.argv, "--fresh"]
    assert next_steps.again(begun=True) == f"{RUN[way]} quick --local"
    assert next_steps.again(begun=False) == f"{RUN[way]} quick --local --fresh"


def test_the_next_command_is_one_that_works_there(way, tmp_path):
    assert next_steps.analyze_next(tmp_path / "a b") == f"Next: {ANALYZE[way]} '{tmp_path}/a b'"
    assert next_steps.run_next(tmp_path / "best.toml") == f"Next: {RUN[way]} {tmp_path}/best.toml"


def test_a_sweep_that_is_not_done_says_how_to_go_on_and_what_is_next(way, call, tmp_path, monkeypatch):
    monkeypatch.setattr(raycifar.execution.sweep, "run_sweep", lambda *_: False)
    status, printed, _ = call("run", "quick", f"--storage={tmp_path}", command=way)
    assert status == 1
    assert f"\nTo go on with what is not done: {RUN[way]} quick --local\n" in printed
    assert printed.endswith(f"\nNext: {ANALYZE[way]} {tmp_path / 'quick'}\n")


def test_an_interrupted_call_says_how_to_go_on(way, call, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(raycifar.execution.sweep, "run_sweep", interrupt)
    status, _, errors = call("run", "quick", f"--storage={tmp_path}", command=way)
    assert (status, errors) == (130, f"\nInterrupted. To go on: {RUN[way]} quick --local\n")


def test_a_search_is_answered_with_the_command_for_its_best(way, call, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "search.json").touch()
    (tmp_path / "s" / "best.toml").touch()
    errors = call("analyze", str(tmp_path / "s"), command=way)[2]
    assert f"not tested; {RUN[way].replace('python run', 'run')} {tmp_path}/s/best.toml makes the sweep" in errors


@pytest.mark.parametrize(
    ("command", "line"),
    [("", "pip install -c constraints.txt -e '.[search]'"), ("raycifar", "pip install 'raycifar[search]'")],
)
def test_an_optional_part_is_installed_from_the_checkout_or_by_the_packages_name(command, line):
    assert Program(command).install("search") == line


def test_a_call_leaves_the_name_as_it_was(call):
    call("run", "nowhere.toml")
    assert program() == Program("")


def test_stock_sweeps_are_named_by_file_in_the_scripts_examples_and_by_name_elsewhere(way):
    text = run_options.make_parser().epilog
    assert f"  {RUN[way]} {'quick' if way else 'sweeps/quick.toml'} " in text


# An output in another encoding than UTF-8 ----------------------------------------------------------------------------

STREAMS = {  # encoding and errors, as Python sets them, and what becomes of "— ✓"
    "PYTHONIOENCODING=latin-1": ("latin-1", "strict", b"? ?\n"),
    "a C locale without Python's UTF-8 mode": ("ascii", "surrogateescape", b"? ?\n"),
    "standard errors by default": ("ascii", "backslashreplace", rb"\u2014 \u2713" + b"\n"),
    "UTF-8": ("utf-8", "strict", "— ✓\n".encode()),
}


def say(*_):
    """In the place of a command's work."""
    print("— ✓")
    print("— ✓", file=sys.stderr)
    return 0


def say_and_refuse(*_):
    say()
    raise SpecError("enough")


HELP = SimpleNamespace(parse_args=lambda words: None, print_help=say)
ENDS = {  # what a command calls to do its work, what stands in for that, and how the command is called
    "run_sweep.py": (run_sweep, "sweep_file", say_and_refuse, lambda: run_sweep.main(["quick"])),
    "run_sweep.py --json": (run_sweep, "sweep_file", say_and_refuse, lambda: run_sweep.main(["quick", "--json"])),
    "analyze.py": (analyze, "analyze", say, lambda: analyze.main(["somewhere"])),
    "raycifar": (main, "make_parser", lambda: HELP, lambda: main.main([])),
}


@pytest.mark.parametrize("called", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_what_an_output_cannot_hold_is_replaced(monkeypatch, no_leaving, called, stream):
    (module, work, instead, command), (encoding, errors, shown) = called, stream
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding, errors, newline="\n"))
    monkeypatch.setattr(module, work, instead)
    assert command() == (2 if instead is say_and_refuse else 0)
    for output in (sys.stdout, sys.stderr):
        output.flush()
    printed = sys.stdout.buffer.getvalue() + sys.stderr.buffer.getvalue()
    assert printed.count(shown) == 2


def test_a_file_name_that_is_no_utf_8_stays_as_it_is_in_an_output_that_keeps_its_bytes(monkeypatch, no_leaving):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape", newline="\n"))
    monkeypatch.setattr(analyze, "analyze", lambda *_: print("a\udcffb"))
    analyze.main(["somewhere"])
    sys.stdout.flush()
    assert sys.stdout.buffer.getvalue() == b"a\xffb\n"
