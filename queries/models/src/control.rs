//! From demand to replicas: the lead time, the quantile that costs justify, cascades and bounded feedback.
