"""Takes secrets out of text before anybody sees it: exact values first, then everything that looks like one.

Pure and generic, and it fails closed: text that is too long to judge, or that does not come to rest after a
bounded number of passes, becomes the mask as a whole. What it gives is a fixed point, so that a second pass
changes nothing. Every pattern is linear in the text: it may be an adversary's.
"""

import functools
import re
from collections.abc import Sequence

MASK = "[redacted]"

_MAX_PASSES = 8
_MAX_CHARS = 256 * 1024

# A value that is cut off before its closing quote is a secret to the end of the text.
_QUOTED = r"""(?:
    (?P<quote>["'])(?:\\.|(?!(?P=quote))[^\\])*+(?:(?P=quote)|\\?\Z)
  | (?P<escaped>\\+["']).*?(?:(?<!\\)(?P=escaped)|\Z)
)"""
_FOLDED = r"(?:\r?\n[ \t]+[^\r\n]+)"

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
_HEADER = re.compile(
    r"""(?<![\w-])(?P<head>(?:(?:proxy-)?authorization|x-api-key|(?:set-)?cookie)
        (?:\\*["']\s*,\s*b?(?=["'])|\\*["']?\s*[:=][ \t]*))
        (?P<value>"""
    + _QUOTED
    + rf"""|[^\s"'\\][^\r\n]*{_FOLDED}*|{_FOLDED}+)""",
    re.DOTALL | re.IGNORECASE | re.VERBOSE,
)
# The value may be missing: a head that always matches is never scanned twice.
_BEARER = re.compile(
    r"""(?P<head>\b(?:bearer\s+)++)
        (?P<value>(?!(?:tokens?|auth(?:entication|orization)?|scheme|header|is|of|was|not)[.,:;!?]*(?:\s|\Z))
        [^\s"']+|)""",
    re.IGNORECASE | re.VERBOSE,
)
# fal's own form: the id of the key, a colon, its secret.
_FAL_KEY = re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}:\w{16,}")
_URL = re.compile(r"""://[^\s"<>]+""")
_PORT = re.compile(r"\d{1,5}(?:[/?#]|\Z)")

_FIELD = re.compile(
    r"""(?<![\w.-])(?P<name>[\w.-]++)(?:(?P<json>\\*["']\s*[:=][=>]*\s*)|[ \t]*[:=][=>]*[ \t]*)""", re.VERBOSE
)
_JSON_VALUE = re.compile(rf"(?:{_QUOTED}|[\[{{][^\]}}]*+[\]}}]?|[^\s,}}\]]+)", re.DOTALL | re.VERBOSE)
_QUERY_VALUE = re.compile(r"""[^\s&#"'<>]+""")
_BARE_VALUE = re.compile(rf"(?:{_QUOTED}|\S+)", re.DOTALL | re.VERBOSE)
_HARMLESS = re.compile(
    r"""(\\*["']?)(?:\[redacted\]|<redacted>|\*{3,}|)\1[.,;:)\]}"']*|null|true|false""", re.IGNORECASE
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

_SECRET_NOUNS = ("password", "passwd", "passphrase", "passcode", "secret", "secrets", "credential", "credentials")
_SECRET_KEYS = ("apikey", "accesskey", "secretkey", "privatekey", "authkey", "signingkey", "falkey")
_SECRET_NAMES = frozenset({"sig", "signature", "jwt", "awsaccesskeyid", "googleaccessid"})
_QUALIFIERS = frozenset({"value", "text", "hash", "base64", "pem", "old", "new", "current"})
_PAGING = frozenset({"page", "nextpage", "next", "previous", "prev", "continuation", "cursor", "sync"})
_COUNTING = frozenset({"max", "min", "num", "count", "total", "used", "prompt", "input", "output", "completion"})
_HARMLESS_KEYS = frozenset(
    {"public", "ssh", "host", "authorized", "known", "idempotency"}
    | {"primary", "foreign", "partition", "sort", "cache", "object", "shard", "routing", "row", "unique", "index"}
)


def redact(text: str, secrets: Sequence[str] = ()) -> str:
    """`text` without the given `secrets` (also JSON- or percent-escaped) and without what looks like a secret.

    Blank secrets are ignored. Gives only `MASK` where the text cannot be made safe.
    """
    if len(text) > _MAX_CHARS:
        return MASK
    exact = sorted({secret.strip() for secret in secrets} - {""}, key=lambda secret: (-len(secret), secret))
    spelled = re.compile("|".join([re.escape(MASK), *map(_spellings, exact)]))
    for _ in range(_MAX_PASSES):
        cleaned = _mask_patterns(spelled.sub(MASK, text))
        if cleaned == text:
            # Masks and the text around them can spell a secret that holds brackets.
            bracketed = [secret for secret in exact if set(secret) & set("[]") and secret not in MASK]
            across = any(re.search(_spellings(secret), text) for secret in bracketed)
            return MASK if across else text
        text = cleaned
    return MASK


@functools.lru_cache(maxsize=16)
def _spellings(secret: str) -> str:
    """A pattern for every way in which JSON, nested JSON and URLs may write `secret`, character by character."""
    return "".join(map(_spellings_of_character, re.sub(r"\\+", r"\\", secret)))


def _spellings_of_character(char: str) -> str:
    # Escaping multiplies backslashes, so a run of any length counts as one; it is only ever entered at its start and
    # never given back, or an adversary's backslashes would take for ever.
    if char == "\\":
        return r"(?i:(?<!\\)(?<!%5c)(?<!u005c)(?:\\(?:u005c)?|%5c)++)"
    octets = "".join(f"%{octet:02x}" for octet in char.encode("utf-8", "surrogatepass"))
    return rf"(?:(?:(?<!\\)\\++)?+(?:{re.escape(char)}|(?i:u{ord(char):04x}))|(?i:{octets}))"


def _mask_patterns(text: str) -> str:
    text = _PRIVATE_KEY.sub(MASK, text)
    text = _HEADER.sub(_mask_headed, text)
    text = _BEARER.sub(_mask_headed, text)
    text = _FAL_KEY.sub(MASK, text)
    text = _URL.sub(_mask_userinfo, text)
    return _mask_fields(text)


def _mask_headed(match: re.Match[str]) -> str:
    return match["head"] + _masked(match["value"])


def _masked(value: str) -> str:
    """The mask inside the quotes of `value`; a value that says nothing (empty, null, masked already) stays."""
    if _HARMLESS.fullmatch(value):
        return value
    quote = re.match(r"""\\*["']""", value)
    if quote is None:
        return MASK
    closing = quote[0] if value.endswith(quote[0]) and len(value) > len(quote[0]) else ""
    return quote[0] + MASK + closing


def _mask_userinfo(match: re.Match[str]) -> str:
    """Masks up to the last `@` of each authority; a password that is not escaped may itself hold `/`, `?` or `#`."""
    return "://".join(map(_without_userinfo, match[0].split("://")))


def _without_userinfo(rest: str) -> str:
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    end = authority.rfind("@")
    if end < 0 and ":" in authority and not _PORT.match(authority.rpartition(":")[2] + rest[len(authority) :]):
        end = rest.rfind("@")
    return rest if end < 0 else MASK + rest[end:]


def _mask_fields(text: str) -> str:
    """Masks the values of the fields whose name is that of a secret: JSON, `name=value` and URL queries."""
    pieces: list[str] = []
    done = 0
    for field in _FIELD.finditer(text):
        if field.start() < done or not _names_secret(field):
            continue
        in_query = field.start() > 0 and text[field.start() - 1] in "?&"
        pattern = _JSON_VALUE if field["json"] else _QUERY_VALUE if in_query else _BARE_VALUE
        value = pattern.match(text, field.end())
        if value is not None:
            pieces += [text[done : field.end()], _masked(value[0])]
            done = value.end()
    return "".join([*pieces, text[done:]])


def _names_secret(field: re.Match[str]) -> bool:
    """Whether the last noun of the field's name is a secret's: `accessToken` is, `page_token`, `token_type` are not."""
    words = [word.lower() for word in _WORD.findall(field["name"])]
    while len(words) > 1 and (words[-1] in _QUALIFIERS or words[-1].isdigit()):
        words.pop()
    if not words:
        return False
    noun, before = words[-1], words[-2] if len(words) > 1 else ""
    if noun.endswith(("token", "tokens")):
        return (noun.rpartition("token")[0] or before) not in _PAGING | _COUNTING
    if noun in {"key", "keys"}:
        return _is_secret_key(field, before, words)
    if noun == "pwd":
        return field["name"] != "PWD"
    return noun in _SECRET_NAMES or "".join(words) in _SECRET_NAMES or noun.endswith(_SECRET_NOUNS + _SECRET_KEYS)


def _is_secret_key(field: re.Match[str], before: str, words: list[str]) -> bool:
    if not before:
        # "host key: SHA256..." and "missing key: id" are diagnostics; `key=` and `"key":` are fields.
        return words == ["key"] and ("=" in field[0] or field["json"] is not None)
    return before not in _HARMLESS_KEYS or "private" in words
