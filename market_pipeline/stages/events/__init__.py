"""The event stream: trades and book events of a day in one order, made and published."""
