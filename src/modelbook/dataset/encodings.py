"""Detect the encoding of a text file."""

from __future__ import annotations

import re
from collections.abc import Iterable

from modelbook.contract.text_layout import SAMPLE_LINES, UTF16_MARKS
from modelbook.errors import DataError

OTHER_ENCODINGS = (
    "cp1250", "cp1251", "cp1253", "cp1254", "shift_jis", "gb18030", "big5", "euc_kr",
)  # fmt: skip
# Latin letters around a sign are no Western text, but cp1250's Wroc³aw; long runs are no Latin.
SIGN_IN_WORD = re.compile(r"[A-Za-zÀ-ÿ][¡-¿][A-Za-zÀ-ÿ]")
FOREIGN_RUN = re.compile(r"[À-ÿ]{3,}")


def detect_encoding(lines: Iterable[bytes], declared: str | None, display_name: str) -> str:
    """UTF-8 if every line decodes; else the declared one, cp1252 if Western, or the best guess."""
    undecodable_lines: list[bytes] = []
    for number, line in enumerate(lines):
        if number == 0 and line.startswith(UTF16_MARKS):
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
    if _is_western(content):
        return "cp1252"
    from charset_normalizer import from_bytes

    best = from_bytes(content, cp_isolation=["cp1252", *OTHER_ENCODINGS], threshold=0.5).best()
    if best is None:
        raise DataError(
            (
                f"{display_name} is not UTF-8, and its encoding cannot be detected: "
                f"{undecodable_lines[0][:60]!r}"
            ),
            expected="text in UTF-8",
            next="save it as UTF-8, or name its encoding (--encoding; in a contract, file: "
            "{encoding: ...})",
        )
    return best.encoding


def _is_western(content: bytes) -> bool:
    """Whether bytes read as Western European text: accents within words, few in a row."""
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        return False
    return not SIGN_IN_WORD.search(text) and not FOREIGN_RUN.search(text)
