//! Estimates from spans and metrics: rates, demand, servers, variability, fan-out, and whether the data suffice.
