"""Detect the encoding of a text file."""

from __future__ import annotations

import re
from collections.abc import Iterable

from modelbook.contract.text_layout import SAMPLE_LINES, UTF16_BOMS
from modelbook.errors import DataError

CYRILLIC_OR_GREEK = ("cp1251", "cp1253")
OTHER_ENCODINGS = (
    *CYRILLIC_OR_GREEK,
    "cp1254",
    "shift_jis",
    "euc_jp",
    "gb18030",
    "big5",
    "euc_kr",
    "cp866",
)
# Symbols within or before a word are letters of another encoding, as in cp1252's Wroc³aw and £ódŸ.
SIGN_IN_WORD = re.compile(r"[^\W\d_][¡-©«-´¶-¹»-¿][^\W\d_]|[£¥¯³¹][^\W\d_]")
LETTER_RUN = re.compile(r"(?:(?![A-Za-z])[^\W\d_]){3,}")  # letters with accents only: no Latin word
NO_CYRILLIC = re.compile(r"[^\x00-\x7fА-яЁё\u2010-\u203a№«»\xa0]")


def detect_encoding(lines: Iterable[bytes], declared: str | None, display_name: str) -> str:
    """UTF-8 if every line decodes; else the declared one, cp1252 if Western, or the best guess."""
    undecodable_lines: list[bytes] = []
    for number, line in enumerate(lines):
        if number == 0 and line.startswith(UTF16_BOMS):
            return "utf-16"
        if not line.isascii():
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                undecodable_lines.append(line)
                if len(undecodable_lines) == SAMPLE_LINES:
                    break
    if not undecodable_lines:
        return "utf-8-sig"  # also reads files without a byte order mark
    if declared:
        return declared
    content = b"".join(undecodable_lines)
    latin_encoding = next((name for name in ("cp1252", "cp1250") if _is_latin(content, name)), None)
    if latin_encoding:
        return latin_encoding
    from charset_normalizer import from_bytes

    is_one_script = not NO_CYRILLIC.search(content.decode("cp1251", errors="replace"))
    candidates = CYRILLIC_OR_GREEK if is_one_script else OTHER_ENCODINGS
    best = from_bytes(content, cp_isolation=[*candidates], threshold=0.5).best()
    if best is None:
        raise DataError(
            f"{display_name} is not UTF-8, and its encoding cannot be detected: "
            f"{undecodable_lines[0][:60]!r}",
            expected="text in UTF-8",
            next="save it as UTF-8, or name its encoding (--encoding; in a contract, file: "
            "{encoding: ...})",
        )
    return best.encoding


def _is_latin(content: bytes, encoding: str) -> bool:
    """Whether bytes read as words in Latin letters: few accents in a row, no signs within."""
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return not SIGN_IN_WORD.search(text) and not LETTER_RUN.search(text)
