"""``python -m im2colnet`` is the command ``im2colnet``."""

import sys

from im2colnet.cli import main

if __name__ == "__main__":
    sys.exit(main())
