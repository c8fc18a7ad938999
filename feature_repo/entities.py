"""What features are about."""

from feast import Entity, ValueType

symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING, description="Market, as in BTC-USD")
