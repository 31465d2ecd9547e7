//! How far the model is off, learned from what it predicted before.
