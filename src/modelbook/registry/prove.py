"""Run in a clean process: ask a model its golden rows. Prints how many, and the largest difference, as JSON."""

import json
import os
import sys

from modelbook.registry.versions import compare_golden


def main(model: str) -> None:
    """Compare ``model``, a URI, with the golden rows kept with it, and leave the process."""
    rows, difference = compare_golden(model)
    sys.stdout.write(json.dumps({"rows": rows, "difference": difference}) + "\n")
    sys.stdout.flush()
    # At once: native libraries end their threads at an ordinary exit, which now and then aborts a process that has
    # already given its answer.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
