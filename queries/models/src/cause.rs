//! Which service is the cause of slow requests, and whether more of it would help.
