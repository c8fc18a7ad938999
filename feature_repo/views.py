"""One view per feature table, hourly."""

from backsight_features import book, macro, market, text
from backsight_features.store.definitions import state_view
from entities import symbol

market_1h = state_view("market_1h", market.FEATURES, symbol, bar="1h")
text_1h = state_view("text_1h", text.FEATURES, symbol, bar="1h")
macro_1h = state_view("macro_1h", macro.FEATURES, symbol, bar="1h")
book_1h = state_view("book_1h", book.FEATURES, symbol, bar="1h")
