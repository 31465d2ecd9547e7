//! Forecasts of load with upper quantiles, from cheap models that must prove themselves on the series itself.
