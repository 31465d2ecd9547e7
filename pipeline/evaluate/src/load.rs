//! Recorded load series: one reader for every format in the data folder.
