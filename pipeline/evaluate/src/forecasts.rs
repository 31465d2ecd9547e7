//! Forecasts on recorded series, by rolling origins, against naive forecasters.
