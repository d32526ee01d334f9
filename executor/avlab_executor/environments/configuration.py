"""How this machine's installers are configured: by variables and files. None of it is ours, and all of it is obeyed.

uv knows nothing of pip's configuration. Where uv has none of its own, pip's is told to it, so that it asks where pip would ask.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

_PASSED_ON = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC", "XDG_CONFIG_DIRS")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
# What decides where they install, or what, is ours to say.
_OURS = re.compile(
    r"(PIP|UV)_(TARGET|PREFIX|ROOT|USER|PYTHON\w*|SYSTEM\w*|CACHE_DIR|LINK_MODE|REQUIRE\w*|REQUIREMENT|ONLY_BINARY|NO_BINARY|NO_BUILD\w*"
    r"|EDITABLE|DRY_RUN|REPORT|LOG\w*|VERBOSE|QUIET|BREAK_SYSTEM_PACKAGES|UPGRADE|NO_DEPS|IGNORE_INSTALLED|COMPILE\w*|SRC|OVERRIDE"
    r"|BUILD_CONSTRAINT\w*|PROJECT\w*|WORKING_DIR\w*|TOOL\w*|TORCH\w*|INPUT|NO_INPUT|PUBLISH\w*|NO_CONFIG)"
)
_UV_INDEXES = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
    "UV_CONFIG_FILE",
)


def variables() -> dict[str, str]:
    """The variables of this process that configure installers, proxies and certificates."""
    found = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON
        or name.lower() in _PROXIES
        or (name.startswith(("PIP_", "UV_")) and not _OURS.fullmatch(name))
    }
    return found


def copy_own(home: Path) -> dict[str, str]:
    """Put the user's own configuration into another home folder, for an installer that is not that user: often it is a secret of hers.
    Returns the variables that lead there. Raises OSError."""
    for path, target in ((f"{_home()}/pip", ".config/pip"), (f"{_home()}/uv", ".config/uv"), ("~/.pip", ".pip")):
        for name in ("pip.conf", "uv.toml"):
            source = Path(path).expanduser() / name
            if source.is_file():
                (home / target).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, home / target / name)
    return {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}


def for_uv(found: Mapping[str, str]) -> dict[str, str]:
    """`variables` with pip's places to ask in uv's words, unless uv has places of its own."""
    if any(name in found for name in _UV_INDEXES) or any(map(os.path.isfile, _uv_files())):
        return dict(found)
    pip = _pip(found)
    words = {
        name: pip.get(name, "").split() for name in ("extra_index_url", "find_links", "constraint", "trusted_host")
    }
    told = {
        "UV_DEFAULT_INDEX": pip.get("index_url", ""),
        "UV_INDEX": " ".join(words["extra_index_url"]),
        "UV_FIND_LINKS": ",".join(_existing(words["find_links"])),
        "UV_CONSTRAINT": " ".join(words["constraint"]),
        "UV_INSECURE_HOST": " ".join(words["trusted_host"]),
        "UV_NO_INDEX": "1" if pip.get("no_index", "").lower() in ("1", "true", "yes", "on") else "",
        "UV_INDEX_STRATEGY": "unsafe-best-match" if words["extra_index_url"] else "",  # as pip chooses
        "UV_HTTP_TIMEOUT": pip.get("timeout", "") or pip.get("default_timeout", ""),
    }
    if "cert" in pip:
        told["SSL_CERT_FILE"] = found.get("SSL_CERT_FILE", pip["cert"])
    if "proxy" in pip:
        told["ALL_PROXY"] = found.get("ALL_PROXY", pip["proxy"])
    return {**{name: value for name, value in told.items() if value}, **found}


def local_paths(found: Mapping[str, str]) -> tuple[str, ...]:
    """Files and folders of this machine that the configuration names, and its own files: an installer must be able to read them.

    The pages of an index in a folder link to files beside that folder, so the one above it counts.
    """
    named = [*_uv_files(), *_pip_files(found)]
    for name, value in (*found.items(), *_pip(found).items()):
        for word in re.split(r"[\s,:](?=/|file:)|[\s,]", value):
            path = unquote(urlsplit(word).path) if word.startswith("file:") else os.path.expanduser(word)
            named += [path, *([os.path.dirname(path.rstrip("/"))] if "index" in name.lower() else [])]
    paths = dict.fromkeys(os.path.normpath(path) for path in named if os.path.isabs(path))
    return tuple(path for path in paths if path not in ("/", _home()) and os.path.exists(path))


def _home() -> str:
    return os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")


def _folders() -> list[str]:
    return (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")


def _uv_files() -> list[str]:
    return [f"{folder}/uv/uv.toml" for folder in (*_folders(), _home())] + ["/etc/uv/uv.toml"]


def _pip_files(found: Mapping[str, str]) -> list[str]:
    """In the order in which later ones win."""
    shared = [f"{folder}/pip/pip.conf" for folder in _folders()] + ["/etc/pip.conf"]
    users = [os.path.expanduser("~/.pip/pip.conf"), f"{_home()}/pip/pip.conf"]
    return [
        *shared,
        *users,
        f"{sys.prefix}/pip.conf",
        *([found["PIP_CONFIG_FILE"]] if "PIP_CONFIG_FILE" in found else []),
    ]


def _pip(found: Mapping[str, str]) -> dict[str, str]:
    """pip's options for an installation, with underscores in their names."""
    options: dict[str, str] = {}
    for path in _pip_files(found):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, "utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip says what is wrong with it
        for section in ("global", "install"):
            if parser.has_section(section):
                options.update((name.replace("-", "_"), value) for name, value in parser.items(section))
    options.update((name[4:].lower(), value) for name, value in found.items() if name.startswith("PIP_"))
    return options


def _existing(places: list[str]) -> Iterator[str]:
    """uv refuses folders that are not there, pip ignores them."""
    return (place for place in places if "://" in place or os.path.exists(os.path.expanduser(place)))
