"""Side words that cannot be swapped by rules: words of other languages and ambiguous English abbreviations."""

from __future__ import annotations

import regex

# Whole words. A text with one of them is not mirrored; a false positive only skips one augmentation.
_WORDS = (
    # German, Dutch
    r"(?:recht|link)(?:s\w*|e[rsnm]?)|re\.|li\.(?=\s*\p{L})",
    # French, Spanish, Portuguese, Italian, Romanian, Latin
    r"droite?s?|gauches?|derech[oa]s?|izquierd[oa]s?|izq|direit[oa]s?|esquerd[oa]s?|destr[oaie]|sinistr[oaie]|sx|dx",
    r"dreapt\w+|drept(?:ul|ului)?|stâng\w*|dext(?:er|ra|rum)|sinist(?:er|ra|rum)",
    # Nordic languages, Finnish, Hungarian, Polish, Czech, Turkish, Indonesian, Vietnamese
    r"höger|högra|vänster|vänstra|høyre|højre|venstre|oike\w+|vase[nm]\w*|jobb\w*|(?-i:[Bb]al)|bal oldal\w*",
    r"praw(?:y|a|e|ego|ej|ym|ą|ostronn\w*)|lew(?:y|a|e|ego|ej|ym|ą|ostronn\w*)",
    r"prav(?:ý|á|é|ého|ém|ou|o|ostrann\w*)|lev(?:ý|á|é|ého|ém|ou|o|ostrann\w*)",
    r"sağ\w*|(?-i:[Ss]ol(?:da|daki|dan|a|un)?)|kanan|kiri|phải|trái",
    # Greek, Russian, Ukrainian
    r"δεξι\w*|αριστερ\w*|\w*прав\w*|\w*лев(?:ый|ая|ое|ого|ой|ом|ую|ые|ых|осторонн\w*)|слева|влево|ліво\w*|лів\w*|зліва",
    # English abbreviations without a partner, or with a second meaning (RA: rheumatoid arthritis, room air)
    r"(?-i:LAD|LC[Xx]|LMCA|LM|RA|LA)",
    # Clock positions.
    r"o['’]clock",
)
_FOREIGN = regex.compile(
    rf"(?<![\p{{L}}\p{{N}}])(?:{'|'.join(_WORDS)})(?![\p{{L}}\p{{N}}])"
    # Chinese, Japanese and Korean: no word boundaries.
    r"|[左右]|왼|오른|[좌우](?:측|폐|상|하|중|엽|신|심|완|흉|,|/|·)|좌우"
    # Scripts whose side words are not listed here.
    r"|(?V1)[\p{L}--[\p{Latin}\p{Greek}\p{Cyrillic}\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Common}\p{Inherited}]]+",
    regex.IGNORECASE,
)


def find_unswappable_word(text: str) -> str | None:
    """First side word of another language or abbreviation without a partner; None if there is no such word.

    Every word in a script whose side words are unknown (Arabic, Thai, ...) counts as a side word.
    """
    match = _FOREIGN.search(text)
    return match.group() if match else None
