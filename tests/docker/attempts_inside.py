"""Runs in the container, as its server would: every attempt of sandbox_attempts from inside a worker of one tier. Prints JSON."""

import json
import sys
import tempfile
from pathlib import Path

from avlab_executor.pool import Pool

SANDBOX = Path(__file__).parent.parent / "sandbox"
sys.path.append(str(SANDBOX))

from sandbox_attempts import ATTEMPTS  # noqa: E402  it lies there
from sandbox_host import Conversation, targets  # noqa: E402


def outcomes(tier: str) -> dict[str, str]:
    """What each attempt got."""
    with Pool(tier, entry="sandbox_attempts:main", paths=[str(SANDBOX)]) as pool:
        conversation = Conversation(pool.acquire())
        facts = targets(Path(tempfile.mkdtemp()), conversation.worker) | {
            "home": "/root",
            "checkout": str(SANDBOX.parent),
        }
        found = {each.name: conversation.ask(attempt=each.name, facts=facts)["outcome"] for each in ATTEMPTS}
        conversation.close()
    return found


if __name__ == "__main__":
    print(json.dumps(outcomes(sys.argv[1])))
