"""Forecasts and features over HTTP, by a process that needs neither TensorFlow, Feast nor a data frame library."""
