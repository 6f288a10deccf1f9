"""``python -m pushforward_client`` is the command ``pushforward``."""

import sys

from pushforward_client.cli import main

sys.exit(main())
