"""Building feature tables: from the facts of the lake, only what new facts affect.

`build.build` does it all. `record` says what a stored table follows from, `plan` which instants new facts affect,
`states` what is known at an instant, `tables` what is stored and how it becomes that; `identities` keeps which text is
which.
"""
