"""The documents of this repository: their fenced blocks, commands, links and headings."""

import dataclasses
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("docs", "migrations", "clients", "crates", "proto", "src", "tests")
# What a package manager or a tool has put there isn't ours.
FOREIGN = ("node_modules", ".venv", "site-packages", "target", "upstream/.cache")


def _paths():
    found = [*ROOT.glob("*.md")]
    for folder in FOLDERS:
        found += (ROOT / folder).rglob("*.md")
    return sorted(path for path in found if not any(part in path.as_posix() for part in FOREIGN))


# Every document, by its path from the root.
DOCUMENTS = {path.relative_to(ROOT).as_posix(): path.read_text() for path in _paths()}


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{self.document}:{self.line}"


def _blocks():
    for document, text in DOCUMENTS.items():
        fence = None
        for number, line in enumerate(text.splitlines(), 1):
            opening = re.match(r"( *)```(.*)$", line)
            if opening and fence is None:
                fence = (len(opening[1]), opening[2].strip(), number, [])
            elif opening:
                indent, language, start, lines = fence
                yield Block(document, start, language, "".join(f"{line[indent:]}\n" for line in lines))
                fence = None
            elif fence is not None:
                fence[3].append(line)
        assert fence is None, f"{document}: a fence is never closed"


BLOCKS = list(_blocks())


def blocks(document, language):
    """The texts of a document's blocks of one language."""
    return [block.text for block in BLOCKS if (block.document, block.language) == (document, language)]


def commands(text):
    """The commands of a shell block, without comments; what ends with a backslash goes on."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = (re.split(r"(?:^|\s{2,})# ", line)[0].strip() for line in joined.splitlines())
    return [line for line in lines if line]


def document_commands(document):
    """All commands of a document's shell blocks, in order."""
    return [command for text in blocks(document, "sh") for command in commands(text)]


def prose(document):
    """A document without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", DOCUMENTS[document], flags=re.M | re.S)


def anchors(document):
    """The anchors of a document's headings, as GitHub makes them."""
    found = []
    for title in re.findall(r"^#+ +(.+)$", prose(document), re.M):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).replace("`", "").lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        again = sum(other == anchor or re.fullmatch(rf"{re.escape(anchor)}-\d+", other) is not None for other in found)
        found.append(f"{anchor}-{again}" if again else anchor)
    return found


def tables(document):
    """The tables of a document: of each, its rows of cells, the head first."""
    for table in re.findall(r"(?:^\|.*\|$\n)+", prose(document), re.M):
        rows = [re.split(r"(?<!\\)\|", line.strip("|")) for line in table.splitlines()]
        yield [[cell.strip().replace(r"\|", "|") for cell in row] for row in rows if set("".join(row)) - set("-: ")]
