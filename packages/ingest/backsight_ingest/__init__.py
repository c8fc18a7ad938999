"""What comes in: dumps read by declared layouts, scores of texts, and made-up worlds to try things on.

Import from the module that holds the idea: ``backsight_ingest.layouts``, ``.pull``, ``.quarantine``.
"""
