"""Code blocks of the documents: where they are, in which language, and how a test runs them.

A fence or an indented block is code if its language is Python or shell. The HTML comment directly before it says how it
is tested:

<!-- run -->        as it stands, on the files of the repository
<!-- run ci -->     as it stands, by `.ci/run`, in a fresh environment (installation, the test suite)
<!-- stand-in -->   in a folder of generated files, with what `stand_ins.py` substitutes
<!-- dry-run -->    not executed: syntax, options and files are checked, launch scripts run with --dry-run

`long` after the first two executed kinds moves the block to `pytest -m long`. Run as a script, this file prints the
number of `run ci` blocks, or the text of the N-th: `python tests/documents.py [N]`. It needs nothing but Python.
"""

import ast
import dataclasses
import pathlib
import re
import shlex
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYTHON = ("python",)
SHELL = ("shell", "bash", "sh", "console")
MARK = re.compile(r"<!-- (run|stand-in|dry-run)(?: (long|ci))? -->")
FENCE = re.compile(r"^( {0,3})(`{3,}|~{3,})\s*(\S*)")
KEYWORDS = ("do", "then", "else", "if", "while", "!")
SEPARATORS = ("&&", "||", "|", ";", "&")


@dataclasses.dataclass(frozen=True)
class Block:
    """One block of a page; `line` (from 1) is that of its first line of text. `kind` is "" without a mark."""

    page: pathlib.Path
    line: int
    language: str
    text: str
    kind: str
    when: str

    @property
    def is_code(self) -> bool:
        return self.language in PYTHON + SHELL

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The words of each shell command, without comments, prompts, assignments and redirections."""
        lexer = shlex.shlex(_joined(self.text), posix=True, punctuation_chars=True)
        lexer.whitespace = " \t"
        lexer.whitespace_split = True
        lexer.commenters = ""
        found: list[list[str]] = [[]]
        for word in lexer:
            if word in SEPARATORS:
                found.append([])
            else:
                found[-1].append(word)
        return [words for words in (_command(words) for words in found) if words]


def pages() -> list[pathlib.Path]:
    """README.md and every page under docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: pathlib.Path) -> list[Block]:
    """The blocks of a page, in order; an indented one is Python if it parses as Python, else shell."""
    lines = page.read_text().splitlines()
    found, at = [], 0
    while at < len(lines):
        fence = FENCE.match(lines[at])
        if fence:
            end = at + 1
            while end < len(lines) and not re.match(rf"^ {{0,3}}{fence[2]}\s*$", lines[end]):
                end += 1
            found.append(_block(page, lines, at, at + 1, end, fence[3]))
            at = end + 1
        elif _starts_indented(lines, at):
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            found.append(_block(page, lines, at, at, end, None))
            at = end
        else:
            at += 1
    return found


def problems(page: pathlib.Path) -> list[str]:
    """What keeps a page's blocks from being tested, each with file and line."""
    found = []
    for block in blocks(page):
        if not block.language:
            found.append(f"{block.place}: the fence names no language; write ```text for what is not code")
        elif block.is_code and not block.kind:
            found.append(
                f"{block.place}: the {block.language} block has no mark; put <!-- run -->, <!-- stand-in --> or "
                "<!-- dry-run --> directly before it (tests/documents.py)"
            )
        elif block.when and block.kind == "dry-run" or block.when == "ci" and block.kind != "run":
            found.append(f"{block.place}: '{block.when}' does not go with <!-- {block.kind} -->")
    return found


def ci_blocks() -> list[Block]:
    """The blocks that `.ci/run` executes."""
    return [block for page in pages() for block in blocks(page) if block.when == "ci"]


def _block(page, lines, first, start, end, language):
    text = "\n".join(line.removeprefix("    ") if language is None else line for line in lines[start:end]).rstrip()
    before = first - 1
    while before >= 0 and not lines[before].strip():
        before -= 1
    mark = MARK.fullmatch(lines[before].strip()) if before >= 0 else None
    if language is None:
        language = "python" if _is_python(text) else "shell"
    return Block(page, start + 1, language, text, mark[1] if mark else "", (mark[2] or "") if mark else "")


def _starts_indented(lines, at):
    if not lines[at].startswith("    ") or not lines[at].strip():
        return False
    before = at - 1
    if before >= 0 and MARK.fullmatch(lines[before].strip()):
        return True
    if before >= 0 and lines[before].strip() and not lines[before].startswith(("#", "<!--")):
        return False  # continues a paragraph or a list item
    while before >= 0 and not lines[before].strip():
        before -= 1
    return before < 0 or not re.match(r"\s*([-*+]|\d+[.)])\s", lines[before])


def _is_python(text):
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _joined(text):
    """One line: continuations and lines joined, prompts and comments removed."""
    text = re.sub(r"\\\n\s*", " ", text)
    text = re.sub(r"^\$ ", "", text, flags=re.M)
    text = re.sub(r"(^|\s)#.*$", "", text, flags=re.M)
    return " ; ".join(line for line in text.splitlines() if line.strip())


def _command(words):
    while words and (words[0] in KEYWORDS or re.match(r"[A-Za-z_]\w*=", words[0])):
        words = words[1:]
    for redirection in (">", ">>", "<", ">&", "2>"):
        if redirection in words:
            words = words[: words.index(redirection)]
    return words


if __name__ == "__main__":
    every = ci_blocks()
    print(every[int(sys.argv[1])].text if len(sys.argv) > 1 else len(every))
