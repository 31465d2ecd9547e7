//! Which series there are, and how each is read.

use std::path::Path;

use super::numbers::{Absence, Points, consecutive};
use super::series::{Quantity, Series};
use super::{FOLDER, LoadError, counters, events, table};

/// A minute, in seconds.
const MINUTE: i64 = 60;
/// An hour, in seconds.
const HOUR: i64 = 3600;
/// A day, in seconds.
const DAY: i64 = 86_400;
/// Monday, 5 June 2000, when the electricity demand begins that Taylor (2003) describes.
const TAYLOR_START: i64 = 960_163_200;
/// The web server's log has no row for a minute without requests; its longest real silence is 45 minutes, its outages last days.
const NASA_IDLE_MAX: i64 = 6 * HOUR;

/// How a file is read.
#[derive(Clone, Copy)]
enum Form {
    /// A table with a column of times and one of numbers.
    Table(&'static str, &'static str),
    /// The same, with natural logarithms instead of numbers.
    Logarithms(&'static str, &'static str),
    /// A table with a row per event and a column of times.
    Events(&'static str),
    /// JSON lines, an event each.
    JsonEvents,
    /// Status documents with a cumulative count.
    Counters,
    /// A number a line, from this second on.
    Lines(i64),
    /// LIMBO.
    Limbo,
}

/// A series and where it is.
pub(super) struct Entry {
    /// What it is called.
    pub(super) name: &'static str,
    file: &'static str,
    form: Form,
    step: i64,
    quantity: Quantity,
}

const fn entry(name: &'static str, file: &'static str, form: Form, step: i64, quantity: Quantity) -> Entry {
    Entry { name, file, form, step, quantity }
}

const fn nab(name: &'static str, file: &'static str, step: i64, quantity: Quantity) -> Entry {
    entry(name, file, Form::Table("timestamp", "value"), step, quantity)
}

/// All series, except the contest's.
pub(super) const ENTRIES: &[Entry] = &[
    entry("nasa", "nasa-http/nasa.csv", Form::Table("minute", "count"), MINUTE, Quantity::Count),
    nab("elb", "nab/realAWSCloudwatch/elb_request_count_8c0756.csv", 5 * MINUTE, Quantity::Count),
    nab("twitter-amzn", "nab/realTweets/Twitter_volume_AMZN.csv", 5 * MINUTE, Quantity::Count),
    nab("twitter-goog", "nab/realTweets/Twitter_volume_GOOG.csv", 5 * MINUTE, Quantity::Count),
    nab("twitter-fb", "nab/realTweets/Twitter_volume_FB.csv", 5 * MINUTE, Quantity::Count),
    nab("twitter-ups", "nab/realTweets/Twitter_volume_UPS.csv", 5 * MINUTE, Quantity::Count),
    nab("twitter-cvs", "nab/realTweets/Twitter_volume_CVS.csv", 5 * MINUTE, Quantity::Count),
    nab("nyc-taxi", "nab/realKnownCause/nyc_taxi.csv", 30 * MINUTE, Quantity::Count),
    nab("asg-cpu", "nab/realKnownCause/cpu_utilization_asg_misconfiguration.csv", 5 * MINUTE, Quantity::Level),
    nab("ec2-cpu-24ae8d", "nab/realAWSCloudwatch/ec2_cpu_utilization_24ae8d.csv", 5 * MINUTE, Quantity::Level),
    nab("ec2-cpu-5f5533", "nab/realAWSCloudwatch/ec2_cpu_utilization_5f5533.csv", 5 * MINUTE, Quantity::Level),
    nab("ec2-cpu-fe7f93", "nab/realAWSCloudwatch/ec2_cpu_utilization_fe7f93.csv", 5 * MINUTE, Quantity::Level),
    nab("ec2-cpu-ac20cd", "nab/realAWSCloudwatch/ec2_cpu_utilization_ac20cd.csv", 5 * MINUTE, Quantity::Level),
    nab("ec2-disk-write", "nab/realAWSCloudwatch/ec2_disk_write_bytes_1ef3de.csv", 5 * MINUTE, Quantity::Level),
    nab("ec2-network-in", "nab/realAWSCloudwatch/ec2_network_in_257a54.csv", 5 * MINUTE, Quantity::Count),
    nab("rds-cpu", "nab/realAWSCloudwatch/rds_cpu_utilization_cc0c53.csv", 5 * MINUTE, Quantity::Level),
    nab("exchange-2-cpc", "nab/realAdExchange/exchange-2_cpc_results.csv", HOUR, Quantity::Level),
    nab("exchange-2-cpm", "nab/realAdExchange/exchange-2_cpm_results.csv", HOUR, Quantity::Level),
    nab("exchange-4-cpc", "nab/realAdExchange/exchange-4_cpc_results.csv", HOUR, Quantity::Level),
    nab("exchange-4-cpm", "nab/realAdExchange/exchange-4_cpm_results.csv", HOUR, Quantity::Level),
    nab("occupancy", "nab/realTraffic/occupancy_6005.csv", 10 * MINUTE, Quantity::Level),
    nab("speed", "nab/realTraffic/speed_6005.csv", 10 * MINUTE, Quantity::Level),
    nab("travel-time", "nab/realTraffic/TravelTime_387.csv", 10 * MINUTE, Quantity::Level),
    entry("autothrottle-diurnal", "autothrottle/diurnal.txt", Form::Lines(0), 1, Quantity::Count),
    entry("autothrottle-bursty", "autothrottle/bursty.txt", Form::Lines(0), 1, Quantity::Count),
    entry("wikipedia", "limbo/wikipedia_trace.txt", Form::Limbo, HOUR, Quantity::Count),
    entry("azure-llm", "azure-llm/AzureLLMInferenceTrace_code.csv", Form::Events("TIMESTAMP"), 1, Quantity::Count),
    entry("mooncake", "mooncake/conversation_trace.jsonl", Form::JsonEvents, 3, Quantity::Count),
    entry("genai", "alibaba-genai/lora_request_trace.csv", Form::Events("gmt_create"), MINUTE, Quantity::Count),
    entry("bike", "bike-sharing/bike_sharing_dataset_clean.csv", Form::Table("date_time", "users"), HOUR, Quantity::Count),
    entry("web-visits", "web-visits/visitas_por_dia_web_cienciadedatos.csv", Form::Table("date", "users"), DAY, Quantity::Count),
    entry("wikipedia-daily", "wikipedia-daily/example_wp_log_peyton_manning.csv", Form::Logarithms("ds", "y"), DAY, Quantity::Count),
    entry("taylor", "taylor/taylor.csv", Form::Lines(TAYLOR_START), 30 * MINUTE, Quantity::Level),
    entry("nginx", "nginx-plus/nginxplus_json_logs", Form::Counters, 10, Quantity::Count),
];

// === impl Entry ===

impl Entry {
    /// Reads the series from the data folder.
    pub(super) fn read(&self, root: &Path) -> Result<Series, LoadError> {
        let path = root.join(FOLDER).join(self.file);
        let path = path.as_path();
        let points = match self.form {
            Form::Table(time, value) => table::rows(path, time, value)?,
            Form::Logarithms(time, value) => table::rows(path, time, value)?.into_iter().map(|(time, value)| (time, value.exp())).collect(),
            Form::Events(time) => whole_steps(table::events(path, time)?, self.step),
            Form::JsonEvents => whole_steps(events::json_lines(path)?, self.step),
            Form::Counters => counters::increments(path, self.step)?,
            Form::Lines(start) => return consecutive(path, self.name, start, self.step, self.quantity, table::lines(path)?),
            Form::Limbo => return consecutive(path, self.name, 0, self.step, self.quantity, table::limbo(path)?),
        };
        Points { path, name: self.name, step: self.step, quantity: self.quantity, absence: self.absence(), points }.grid()
    }

    fn absence(&self) -> Absence {
        match self.form {
            // Events are all that happened: between the first and the last there is no silence that was not recorded.
            Form::Events(_) | Form::JsonEvents => Absence::IdleUpTo(i64::MAX),
            Form::Table(..) if self.name == "nasa" => Absence::IdleUpTo(NASA_IDLE_MAX),
            _ => Absence::Missing,
        }
    }
}

/// Times of events rounded down to whole steps since the epoch, so that a step begins on the minute.
fn whole_steps(events: Vec<(i64, f64)>, step: i64) -> Vec<(i64, f64)> {
    events.into_iter().map(|(time, value)| (time.div_euclid(step) * step, value)).collect()
}
