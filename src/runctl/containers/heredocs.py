"""Which here-documents a line of a Dockerfile begins, by the rules of BuildKit. Pure.

BuildKit splits the line into words as a shell does, and takes a whole word of the form ``[FD]<<[-]NAME`` for one
(https://docs.docker.com/reference/dockerfile/#here-documents, and its ``parser`` and ``shell`` packages): neither
``<<<``, nor ``$((1<<n))``, nor what is in quotes. A line that it cannot split has none.
"""

from __future__ import annotations

import re

_HEREDOC = re.compile(r"\d*<<(-?)\s*([^<]*)", re.ASCII)
_NAME = re.compile(r"[0-9]+|[@*#?\-$!]|\w+")


def heredocs(line: str) -> list[tuple[str, bool]]:
    """The last line of each document, in their order, and whether tabs may stand before it."""
    found = []
    for word in _words(line, raw=True):
        match = _HEREDOC.fullmatch(word)
        names = _words(match[2], raw=False) if match is not None else []
        if match is not None and len(names) == 1:
            found.append((names[0], bool(match[1])))
    return found


def _words(line: str, *, raw: bool) -> list[str]:
    """``raw``: with their quotes and escapes. None where the line cannot be split."""
    splitter = _Splitter(line, raw)
    try:
        splitter.read_until("")
    except ValueError:
        return []
    return splitter.words


class _Splitter:
    """Reads a line from its start to its end. Raises `ValueError` where a quote or a brace is not closed."""

    def __init__(self, line: str, raw: bool) -> None:
        self.words: list[str] = []
        self._line, self._raw = line, raw
        self._at = 0

    def read_until(self, stop: str) -> str:
        """All up to there; the words are those of the outermost call."""
        whole, word = "", ""
        while self._at < len(self._line):
            sign = self._line[self._at]
            if stop and sign == stop:
                self._at += 1
                return whole
            piece, is_whole = self._piece(sign)
            whole += piece
            for part in [piece] if is_whole else piece:
                if not is_whole and part.isspace():
                    self._add(word, stop)
                    word = ""
                else:
                    word += part
        if stop:
            raise ValueError(stop)
        self._add(word, stop)
        return whole

    def _add(self, word: str, stop: str) -> None:
        if word and not stop:
            self.words.append(word)

    def _piece(self, sign: str) -> tuple[str, bool]:
        """What begins here, and whether blanks in it belong to the word."""
        if sign == "'":
            return self._quoted_singly(), True
        if sign == '"':
            return self._quoted_doubly(), True
        if sign == "$":
            return self._variable(), False
        self._at += 1
        if sign == "\\":
            escaped = self._line[self._at : self._at + 1]
            self._at += 1
            return ("\\" if self._raw else "") + escaped, True
        if sign == "<" and self._line.startswith("<", self._at):
            start = self._at
            self._at += 1
            while self._line[self._at : self._at + 1].isspace():
                self._at += 1
            return "<" + self._line[start : self._at], True
        return sign, False

    def _quoted_singly(self) -> str:
        end = self._line.index("'", self._at + 1)
        text = self._line[self._at : end + 1]
        self._at = end + 1
        return text if self._raw else text[1:-1]

    def _quoted_doubly(self) -> str:
        self._at += 1
        text = ""
        while True:
            sign = self._next()
            if sign == '"':
                return f'"{text}"' if self._raw else text
            if sign == "$":
                self._at -= 1
                sign = self._variable()
            elif sign == "\\":
                escaped = self._line[self._at : self._at + 1]
                if escaped and escaped in '"$\\':
                    self._at += 1
                    sign = "\\" + escaped if self._raw else escaped
            text += sign

    def _variable(self) -> str:
        """``$NAME``, ``${NAME…}`` or a dollar, as it stands there: no variable is set."""
        start = self._at
        self._at += 1
        if not self._line.startswith("{", self._at):
            self._skip_name()
            return self._line[start : self._at]
        self._at += 1
        if self._line[self._at : self._at + 1] in ("{", "}", ":"):
            raise ValueError("bad substitution")
        self._skip_name()
        sign = self._next()
        if sign == ":":
            self._next()
        elif sign == "/":
            if self._line.startswith("/", self._at):
                self._at += 1
            self.read_until("/")
        elif sign not in "}+-?#%":
            raise ValueError("unsupported modifier")
        if sign != "}":
            self.read_until("}")
        return self._line[start : self._at]

    def _skip_name(self) -> None:
        name = _NAME.match(self._line, self._at)
        self._at = name.end() if name is not None else self._at

    def _next(self) -> str:
        if self._at >= len(self._line):
            raise ValueError("end of line")
        self._at += 1
        return self._line[self._at - 1]
