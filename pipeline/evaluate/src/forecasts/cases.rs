//! Which series are forecast, in which steps.

/// Minutes and hours, in seconds.
const FIVE_MINUTES: i64 = 300;
const TEN_MINUTES: i64 = 600;
const HALF_HOUR: i64 = 1800;
const HOUR: i64 = 3600;

/// All recordings of at least two weeks with steps of at most an hour: requests and other counts first, then levels of machines.
/// The constants of the forecaster were chosen by scores on these: the older ones on the days that are judged, the newer ones on the days
/// before those. The last five took part only by the days before, the contest's series not at all.
pub(super) const ALL: &[(&str, i64)] = &[
    ("nasa", FIVE_MINUTES),
    ("nasa", HOUR),
    ("nyc-taxi", HALF_HOUR),
    ("nyc-taxi", HOUR),
    ("taylor", HALF_HOUR),
    ("elb", FIVE_MINUTES),
    ("elb", HOUR),
    ("twitter-amzn", FIVE_MINUTES),
    ("twitter-amzn", HOUR),
    ("twitter-goog", FIVE_MINUTES),
    ("twitter-fb", FIVE_MINUTES),
    ("twitter-ups", FIVE_MINUTES),
    ("bike", HOUR),
    ("wikipedia", HOUR),
    ("genai", HOUR),
    ("exchange-2-cpc", HOUR),
    ("exchange-4-cpm", HOUR),
    ("occupancy", TEN_MINUTES),
    ("asg-cpu", FIVE_MINUTES),
    ("ec2-cpu-24ae8d", FIVE_MINUTES),
    ("ec2-cpu-5f5533", FIVE_MINUTES),
    ("ec2-cpu-ac20cd", FIVE_MINUTES),
    ("ec2-cpu-fe7f93", FIVE_MINUTES),
    ("ec2-disk-write", FIVE_MINUTES),
    ("ec2-network-in", FIVE_MINUTES),
    ("rds-cpu", FIVE_MINUTES),
    ("twitter-cvs", FIVE_MINUTES),
    ("exchange-2-cpm", HOUR),
    ("exchange-4-cpc", HOUR),
    ("speed", TEN_MINUTES),
    ("travel-time", TEN_MINUTES),
];
