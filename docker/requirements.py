"""Print what pyproject.toml requires: "dependencies", and the extras that are named. For the Dockerfile."""

import sys
import tomllib
from pathlib import Path


def requirements(names: list[str]) -> list[str]:
    """The requirements of avlab itself ("dependencies") and of extras, in order."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    groups = {"dependencies": project["dependencies"], **project["optional-dependencies"]}
    return [requirement for name in names for requirement in groups[name]]


if __name__ == "__main__":
    print(*(requirement.replace(" ", "") for requirement in requirements(sys.argv[1:])))
