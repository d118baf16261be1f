"""Run in a clean process: ask a model its golden rows. Prints how many, and the largest difference, as JSON."""

import json
import sys

from modelbook.registry.versions import compare_golden


def main(model: str) -> None:
    """Compare ``model``, a URI, with the golden rows kept with it."""
    rows, difference = compare_golden(model)
    sys.stdout.write(json.dumps({"rows": rows, "difference": difference}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
