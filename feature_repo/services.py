"""What a model reads: a service for training, and the view its newest window is published to."""

from backsight_features.store.definitions import service, window_view
from entities import symbol
from views import book_1h, macro_1h, market_1h, text_1h

forecast_1h = service("forecast_1h", [market_1h, text_1h, macro_1h], bar="1h")
price_1h = service("price_1h", [market_1h], bar="1h")
# With one source less than all: what forecast_1h has over them is worth what that source adds.
price_text_1h = service("price_text_1h", [market_1h, text_1h], bar="1h")
price_macro_1h = service("price_macro_1h", [market_1h, macro_1h], bar="1h")
# With order books, which cannot be asked for afterwards: they are there from when somebody began to look.
price_book_1h = service("price_book_1h", [market_1h, book_1h], bar="1h")
forecast_book_1h = service("forecast_book_1h", [market_1h, text_1h, macro_1h, book_1h], bar="1h")

forecast_1h_window = window_view(forecast_1h, symbol)
price_1h_window = window_view(price_1h, symbol)
price_text_1h_window = window_view(price_text_1h, symbol)
price_macro_1h_window = window_view(price_macro_1h, symbol)
price_book_1h_window = window_view(price_book_1h, symbol)
forecast_book_1h_window = window_view(forecast_book_1h, symbol)
