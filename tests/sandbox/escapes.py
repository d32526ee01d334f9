"""Prints, for each tier, how many attempts to escape were made from inside and what came of them: ``make escapes``."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

from avlab_executor.pool import Pool
from sandbox_attempts import ATTEMPTS, ITS_OWN, NO_EFFECT
from sandbox_host import EVERY_TIER, HERE, Conversation, targets


def main() -> int:
    """The number of attempts that succeeded or got another answer than the table says."""
    wrong = 0
    print(f"{'tier':<12}{'tried':>6}{'refused':>9}{NO_EFFECT:>11}{ITS_OWN:>9}{'succeeded':>11}{'unexpected':>12}")
    for tier in EVERY_TIER:
        counts: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as folder, Pool(tier, entry="sandbox_attempts:main", paths=[HERE]) as pool:
            conversation = Conversation(pool.acquire())
            facts = targets(Path(folder), conversation.worker)
            for attempt in ATTEMPTS:
                outcome = conversation.ask(attempt=attempt.name, facts=facts)["outcome"]
                if outcome.startswith("success"):
                    counts["succeeded"] += 1
                else:
                    counts[outcome if outcome in (NO_EFFECT, ITS_OWN) else "refused"] += 1
                if outcome not in attempt.expected[tier].split("|"):
                    counts["unexpected"] += 1
                    print(f"{tier}: {attempt.name}: {outcome}, expected {attempt.expected[tier]}", file=sys.stderr)
            conversation.close()
        columns = [counts["refused"], counts[NO_EFFECT], counts[ITS_OWN], counts["succeeded"], counts["unexpected"]]
        print(
            f"{tier:<12}{len(ATTEMPTS):>6}"
            + "".join(f"{n:>{w}}" for n, w in zip(columns, (9, 11, 9, 11, 12), strict=True))
        )
        wrong += counts["succeeded"] + counts["unexpected"]
    return wrong


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
