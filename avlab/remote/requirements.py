"""Requirements: which packages a session needs besides those of its executor. Names and versions from a registry, nothing else.

Checked here and again by the executor, for whom they are a stranger's input: no options, no addresses, no paths.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from avlab.core.errors import ConfigError

MAX_REQUIREMENTS = 64
MAX_LENGTH = 200
"""Most characters of one requirement, without its hashes."""
MAX_HASHES = 64
"""Most hashes of one requirement: a release has one for each of its files."""

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?"
_CLAUSE = r"(?:~=|===?|!=|<=?|>=?)\s*[A-Za-z0-9][A-Za-z0-9.+!_*-]{0,63}"
_REQUIREMENT = re.compile(
    rf"(?P<name>{_NAME})\s*(?:\[\s*(?P<extras>{_NAME}(?:\s*,\s*{_NAME})*)\s*\])?\s*"
    rf"(?P<clauses>{_CLAUSE}(?:\s*,\s*{_CLAUSE})*)?\s*(?:;(?P<marker>[^;]*))?",
    re.ASCII,
)
_MARKER_WORD = re.compile(
    r"\s*(?:python_version|python_full_version|os_name|sys_platform|platform_(?:release|system|version|machine|python_implementation)"
    r"|implementation_(?:name|version)|extra|and|or|not|in|~=|===?|!=|<=?|>=?|[()]|'[A-Za-z0-9._+ -]*'|\"[A-Za-z0-9._+ -]*\")",
    re.ASCII,
)
_HASH = re.compile(r"\s--hash=(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})(?=\s|$)")
_MINOR = re.compile(r"3\.[1-9]?[0-9]")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement in its normal form. ``name``: the project's, in lower case with single dashes."""

    name: str
    text: str
    hashes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text + "".join(f" --hash={each}" for each in self.hashes)


def parse(text: str) -> Requirement:
    """A requirement such as ``scipy>=1.14``, ``uvicorn[standard]~=0.30; python_version < "3.13"`` or ``six==1.17.0 --hash=sha256:…``.

    Raises ConfigError for anything else: options, addresses, paths, and what is longer than MAX_LENGTH.
    """
    if not isinstance(text, str):
        raise ConfigError(f"requirement {text!r} is no text: write for example 'scipy>=1.14'")
    hashes = tuple(sorted(set(_HASH.findall(text))))
    plain = _HASH.sub("", text).strip()
    if len(plain) > MAX_LENGTH or len(hashes) > MAX_HASHES:
        raise ConfigError(
            f"requirement {text[:40]!r}… is too long: at most {MAX_LENGTH} characters and {MAX_HASHES} hashes"
        )
    found = _REQUIREMENT.fullmatch(plain)
    if found is None or not plain.isprintable():
        raise ConfigError(
            f"requirement {text[:MAX_LENGTH]!r} is not a name with versions, such as 'scipy>=1.14': options, addresses and paths are "
            "not accepted"
        )
    name = canonical(found["name"])
    extras = ",".join(sorted({canonical(extra.strip()) for extra in (found["extras"] or "").split(",") if extra.strip()}))
    clauses = ",".join(sorted({re.sub(r"\s", "", clause) for clause in (found["clauses"] or "").split(",") if clause}))
    marker = _marker(found["marker"] or "", plain)
    if hashes and not re.fullmatch(r"===?[^*,]+", clauses):
        raise ConfigError(f"requirement {plain!r} has hashes and no exact version: write {name}==VERSION")
    return Requirement(name, name + (f"[{extras}]" if extras else "") + clauses + marker, hashes)


def normal(requirements: Sequence[str]) -> tuple[Requirement, ...]:
    """Requirements in their normal form, sorted, each once: equal for lists that mean the same.

    Raises ConfigError for a bad one, for more than MAX_REQUIREMENTS, and where only some have hashes.
    """
    if isinstance(requirements, str) or not isinstance(requirements, Collection):
        raise ConfigError(f"pip={requirements!r} is no list of requirements: give one, such as [\"scipy>=1.14\"]")
    if len(requirements) > MAX_REQUIREMENTS:
        raise ConfigError(f"{len(requirements)} requirements are above the limit of {MAX_REQUIREMENTS}")
    parsed = sorted({parse(each) for each in requirements}, key=str)
    bare = [each for each in parsed if not each.hashes]
    if bare and len(bare) < len(parsed):
        raise ConfigError(f"requirement {bare[0].text!r} has no hash and others have: give all of them hashes, or none")
    return tuple(parsed)


def canonical(name: str) -> str:
    """A project's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def check_minor(python: str) -> str:
    """``python`` if it is a minor version such as "3.12". Raises ConfigError."""
    if not isinstance(python, str) or not _MINOR.fullmatch(python):
        raise ConfigError(f"python={python!r} is not a minor version of Python: write for example python='3.12'")
    return python


def _marker(text: str, whole: str) -> str:
    words, at = [], 0
    while text[at:].strip():
        found = _MARKER_WORD.match(text, at)
        if found is None:
            raise ConfigError(f"requirement {whole!r}: its marker is not understood at {text[at : at + 20]!r}")
        words.append(found[0].strip())
        at = found.end()
    return "; " + " ".join(words) if words else ""
