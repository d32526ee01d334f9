"""Runs in the container, as its server would: every attempt of sandbox_attempts from inside a worker of one tier. Prints JSON."""

import json
import os
import sys
import tempfile
from pathlib import Path

from avlab_executor.pool import Pool

HERE = Path(__file__).parent
SANDBOX = HERE.parent / "sandbox"
sys.path.append(str(SANDBOX))

from sandbox_attempts import ATTEMPTS  # noqa: E402  it lies there
from sandbox_host import Conversation  # noqa: E402


def outcomes(tier: str) -> dict[str, str]:
    """What each attempt got."""
    folder = Path(tempfile.mkdtemp())
    secret, open_folder = folder / "secret", folder / "open"
    secret.write_text("a secret of the container")
    secret.chmod(0o644)
    open_folder.mkdir()
    open_folder.chmod(0o777)
    with Pool(tier, entry="sandbox_attempts:main", paths=[str(SANDBOX)]) as pool:
        conversation = Conversation(pool.acquire())
        stat = Path(f"/proc/{conversation.worker.pid}/stat").read_text()
        facts = {
            "host": os.getpid(),
            "zygote": int(stat.rpartition(")")[2].split()[1]),
            "secret": str(secret),
            "open_folder": str(open_folder),
            "home": "/root",
            "checkout": str(HERE.parent),
        }
        found = {each.name: conversation.ask(attempt=each.name, facts=facts)["outcome"] for each in ATTEMPTS}
        conversation.close()
    return found


if __name__ == "__main__":
    print(json.dumps(outcomes(sys.argv[1])))
