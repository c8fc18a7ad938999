"""A made-up world whose relation between texts, macro series and prices is known, to try everything else on."""
