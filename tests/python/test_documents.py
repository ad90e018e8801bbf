"""What can be said of the documents without running them: links, flags, tables, lengths, and the files they name."""

import functools
import itertools
import re
import subprocess

import pytest
from conftest import ROOT, chatledger
from documents import DOCUMENTS, anchors, prose, tables

# Flags that documents name and that are other programs'.
OTHER_FLAGS = {
    "--all-targets",  # cargo's
    "--autogenerate",  # Alembic's
    "--build-arg",  # docker's
    "--clean",  # pg_restore's
    "--disable-triggers",  # pg_restore's
    "--group",  # pip's
    "--nocapture",
    "--profile",  # docker compose's
    "--release",
    "--scale",  # clients/python/benchmarks/writer.py's
    "--strict",  # mypy's
    "--times",
}


def test_the_readme_is_short():
    assert DOCUMENTS["README.md"].count("\n") <= 150


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    here = (ROOT / document).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if re.match(r"[a-z]+:", target):
            assert target.startswith("https://"), target
            continue
        path, _, anchor = target.partition("#")
        file = (here / path).resolve() if path else ROOT / document
        assert file.exists(), f"{document} links to {target}"
        if anchor:
            linked = file.relative_to(ROOT).as_posix()
            assert anchor in anchors(linked), f"{document} links to {target}, which has {anchors(linked)}"


def test_every_page_is_reached_from_the_readme():
    reached, waiting = set(), ["README.md"]
    while waiting:
        document = waiting.pop()
        if document in reached:
            continue
        reached.add(document)
        for target in re.findall(r"\]\(([^)#\s]+\.md)[^)]*\)", DOCUMENTS[document]):
            if not target.startswith("https:"):
                waiting.append((ROOT / document).parent.joinpath(target).resolve().relative_to(ROOT).as_posix())
    assert {name for name in DOCUMENTS if name.startswith(("docs/", "migrations/", "clients/"))} <= reached


@functools.cache
def help_of(*command):
    """What --help says of a command of the program."""
    run = subprocess.run([*chatledger(), *command, "--help"], capture_output=True, text=True)
    assert run.returncode == 0, (command, run.stderr)
    return run.stdout


def flags_of(*command):
    return set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", help_of(*command), re.M))


def subcommands(*command):
    listed = re.search(r"^Commands:\n((?: +\S.*\n)+)", help_of(*command), re.M)
    names = re.findall(r"^  (\S+) ", listed[1], re.M) if listed else []
    return [(*command, name) for name in names if name != "help"]


@functools.cache
def all_commands():
    """Every command of the program that does something."""
    found, waiting = [], [()]
    while waiting:
        command = waiting.pop()
        below = subcommands(*command)
        waiting += below
        if not below:
            found.append(command)
    assert ("migrate", "up") in found and ("serve",) in found
    return found


def test_the_table_of_flags():
    """Every flag of `serve --help` with its variable and its default, and no other."""
    flags = re.findall(r"^ {6}(--\S+)(.*?)(?=^ {2,6}-|\Z)", help_of("serve"), re.M | re.S)
    table = {}
    for row in itertools.chain(*tables("docs/configuration.md")):
        if row[0].startswith("`--") and len(row) == 4:
            table[row[0].split()[0].strip("`")] = (row[1], row[2])
    assert len(flags) > 20 and {flag for flag, _ in flags} == set(table)
    for flag, rest in flags:
        variable, default = table[flag]
        assert re.search(r"\[env: (\w+)", rest)[1] in variable, flag
        given = re.search(r"^ +\[default: (\S+)\]$", rest, re.M)
        if given:
            assert given[1] in default, flag


def test_the_table_of_limits():
    """The limits of operations.md that are flags have the defaults of `serve --help`."""
    units = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20}
    seen = 0
    for limit, default, _ in itertools.chain(*(table for table in tables("docs/operations.md") if len(table[0]) == 3)):
        for flag in re.findall(r"`(--[a-z-]+)`", limit):
            rest = re.search(rf"^ +{flag} (.*?)(?=^ +--|\Z)", help_of("serve"), re.M | re.S)[1]
            given = re.search(r"\[default: ([^\]]+)\]", " ".join(rest.split()))[1]
            seen += 1
            if given == default:
                continue
            number, unit = re.match(r"([\d.]+) ?(KiB|MiB|m|s|)", default).groups()
            said = {number + unit} if unit in ("s", "m") else {str(int(number) * units[unit])}
            assert given in said, f"{flag} is {given}, and not {default}"
    assert seen > 10


def test_the_table_of_migration_commands():
    """Every command of `migrate`, with flags that it takes."""
    named = set()
    for row in itertools.chain(*tables("migrations/README.md")):
        command = re.match(r"`migrate (\w+)", row[0])
        if command:
            named.add(("migrate", command[1]))
            given = set(re.findall(r"--[a-z-]+", row[0]))
            assert given <= flags_of("migrate", command[1]), row[0]
    assert named == set(subcommands("migrate"))


def test_the_table_of_layouts():
    """Those of `import --help`."""
    rows = next(table for table in tables("docs/moving.md") if "--layout" in table[0][0])
    values = re.search(r"--layout <.*?\n\n(.*?)\[default", help_of("import"), re.S)[1]
    assert {row[0].strip("`") for row in rows[1:]} == set(re.findall(r"^ +- (\S+):", values, re.M))


def test_the_table_of_errors():
    """Every reason that a status may have, and no other, each with its code."""
    source = (ROOT / "src/api/status.rs").read_text().split("#[cfg(test)]")[0]
    made = {reason for reason in re.findall(r'"([A-Z]+(?:_[A-Z]+)+|INTERNAL|OVERLOADED)"', source)}
    table = next(table for table in tables("docs/errors.md") if table[0][1] == "reason")
    said = {reason.strip() for row in table[1:] for reason in row[1].split(",")}
    assert said == made


def test_flags_in_the_text_are_flags_of_the_program():
    known = set().union(*(flags_of(*command) for command in all_commands()))
    for document in DOCUMENTS:
        for code in re.findall(r"`([^`\n]+)`", prose(document)):
            for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", code):
                assert flag in known | OTHER_FLAGS, f"{document} says {code}"


def test_commands_in_the_text_take_their_flags():
    """`chatledger bench append --rate` and the like."""
    by_name = {" ".join(command): command for command in all_commands()}
    seen = 0
    for document in DOCUMENTS:
        for code in re.findall(r"`((?:chatledger |migrate |bench |import |export )[^`\n]+)`", prose(document)):
            words = [word for word in code.removeprefix("chatledger ").split()]
            command = by_name.get(" ".join(words[:2])) or by_name.get(words[0])
            if command is None:
                continue
            given = {word.split("=")[0].strip("[]") for word in words if word.startswith(("--", "[--"))}
            assert given <= flags_of(*command), f"{document} says {code}"
            seen += 1
    assert seen > 10


@functools.cache
def files():
    skipped = {".git", "target", "node_modules", "__pycache__"}
    return [
        path.relative_to(ROOT).as_posix()
        for folder in ROOT.iterdir()
        if folder.name not in skipped
        for path in [folder, *(folder.rglob("*") if folder.is_dir() else [])]
    ]


def test_files_in_the_text_are_there():
    """A name in code type with a known ending is the end of some file's path; one that ends with / of some folder's."""
    seen = 0
    # What a reader is told to write, and what the changelog says of older trees.
    own = {"first.py", "chatledger_models.py", "prisma/chatledger.prisma", "report.html", "compare.json", "before.dump"}
    for document in DOCUMENTS.keys() - {"CHANGELOG.md"}:
        for name in re.findall(r"`([\w./-]+(?:\.(?:rs|sql|py|proto|toml|md|sh)|/))`", prose(document)):
            name = name.removeprefix("./")
            if name in own or name.startswith("V"):
                continue
            slash = "/" if name.endswith("/") else ""
            assert any(f"/{file}{slash}".endswith(f"/{name}") for file in files()), f"{document} names {name}"
            seen += 1
    assert seen > 40
