"""``python -m cratepy`` is the console script ``cratepy``."""

import sys

from cratepy.server.cli import main

if __name__ == "__main__":
    sys.exit(main())
