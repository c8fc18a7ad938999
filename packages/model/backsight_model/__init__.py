"""Learning from what was known, and proving skill before anything is promoted.

Import what you need from the module that is named after it; nothing heavy is imported here.
"""

from typing import Final

__version__: Final = "0.1.0"
