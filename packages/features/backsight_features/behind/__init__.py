"""Which facts are behind a value: what each family of features read of the lake at an instant, and why not the rest.

A family declares what its features read (`feature.Feature.reads`, `macro.reading`); here the facts are held against
that and against the clocks. Nothing is computed: `why.explain` does so from the facts that were read, by the features'
own functions.
"""
