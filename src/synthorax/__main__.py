"""`python -m synthorax`."""

import sys

from synthorax.cli import main

sys.exit(main())
