"""Two feature tables and two services, for tests that bring their own facts."""

from datetime import timedelta

from backsight_features.feature import Feature
from backsight_features.store.definitions import service, state_view, window_view
from entities import symbol


def feature(name, hours):
    return Feature(name=name, description=name, unit="1", lookback=None, max_age=timedelta(hours=hours))


market_1h = state_view("market_1h", [feature("ret", 24), feature("vol", 24)], symbol, bar="1h")
text_1h = state_view("text_1h", [feature("sent_y", 1)], symbol, bar="1h")
forecast_1h = service("forecast_1h", [market_1h, text_1h], bar="1h")
price_1h = service("price_1h", [market_1h], bar="1h")
forecast_1h_window = window_view(forecast_1h, symbol)
price_1h_window = window_view(price_1h, symbol)
