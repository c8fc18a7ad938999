"""Sentences on which two versions of a classifier are compared: invented, on markets, good, bad and neither."""

from functools import cache
from typing import Final

_SUBJECTS: Final = (
    "Bitcoin",
    "The company",
    "Ethereum",
    "The central bank of the country",
    "A mid-sized lender from the north",
    "The exchange",
    "Shares of the chip maker",
    "The token of the lending protocol",
    "Our portfolio",
    "The world's largest maker of solar panels",
    "Demand for spot funds",
    "The miner",
)
_EVENTS: Final = (
    "rallied 7% to a record high",
    "fell sharply",
    "was flat",
    "missed estimates for the third quarter in a row",
    "beat expectations and raised its outlook for the year",
    "will publish its report on Thursday",
    "lost more than $40 million in a hack",
    "won approval from the regulator",
    "is under investigation for fraud",
    "announced a new chief financial officer",
    "cut 1,200 jobs",
    "doubled its operating profit to EUR 13.1 mn from EUR 6.5 mn",
    "held above $27,000",
    "filed for bankruptcy",
    "moved its annual meeting to May",
)
_CLAUSES: Final = (
    "",
    "on Monday",
    "as traders looked for a sign of where rates would go next",
    "although volumes stayed thin",
    "after a week in which nearly every large coin had given up its gains of the month",
    "according to two people who know about the matter",
    "while the dollar strengthened against the euro and the yen and yields rose to their highest in a year",
    "in line with what analysts had said",
    "even though its peers did better, its debt was downgraded twice and its largest owner had sold a third of its "
    "stake to a fund that is known for short bets",
)
_LABELS: Final = ("", "", "BREAKING: ", "", "ELI5, ", "", "Update 2 - ")
_ENDS: Final = (".", "!", "", ".", "?", " lol", ".", " - what now?")
_COUNT: Final = 400


@cache
def probes() -> tuple[str, ...]:
    """Return 400 different sentences of about 3 to 70 tokens."""
    # Steps without a common divisor meet in ever other combinations.
    lists = (_LABELS, _SUBJECTS, _EVENTS, _CLAUSES, _ENDS)
    rounds = (
        tuple(part[(i * step + i // len(part)) % len(part)] for part, step in zip(lists, (1, 5, 7, 4, 3), strict=True))
        for i in range(_COUNT)
    )
    return tuple(f"{label}{subject} {event} {clause}".rstrip() + end for label, subject, event, clause, end in rounds)
