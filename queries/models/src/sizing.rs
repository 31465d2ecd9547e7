//! What replicas a latency objective needs, and whether any number can hold it.
