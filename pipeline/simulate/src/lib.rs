//! Simulated services, the baselines that scale them, and scores.
