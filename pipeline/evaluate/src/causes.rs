//! Which service is the cause: labelled faults and negatives of recorded call graphs.
