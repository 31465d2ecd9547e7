//! SQL functions over plain numbers: the models crate as scalar functions. NULL in, NULL out: a missing input never becomes zero.
