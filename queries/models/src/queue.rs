//! Queueing formulas: waiting and sojourn in the systems that services are.
