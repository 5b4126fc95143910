"""The process that one measurement runs in: ``python measured.py MODULE FUNCTION FILE ARGUMENT...``.

Calls ``MODULE.FUNCTION(ARGUMENT...)`` and writes the figures that it gives to FILE as JSON. It imports nothing before
the call, so that an interpreter that should be empty is empty.
"""

import sys


def main() -> None:
    module, function, file, *arguments = sys.argv[1:]
    figures = getattr(__import__(module), function)(*arguments)
    import json

    with open(file, "w", encoding="utf-8") as out:
        json.dump(figures, out)


# Peers that start their processes afresh import this file again.
if __name__ == "__main__":
    main()
