//! The readers on the recordings themselves, when the data folder is at hand.

use std::path::PathBuf;

use super::*;

/// The data folder, or a message that the test is skipped.
fn data(test: &str) -> Option<PathBuf> {
    let root = std::env::var_os("TRACESCALE_DATA").map(PathBuf::from);
    if root.is_none() {
        eprintln!("skipped {test}: TRACESCALE_DATA does not name the data folder");
    }
    root
}

/// Sum, number of known steps, number of missing steps.
fn totals(series: &Series) -> (f64, usize, usize) {
    let known: Vec<f64> = series.values.iter().copied().flatten().collect();
    (known.iter().sum(), known.len(), series.values.len() - known.len())
}

/// Guarantees: every recording is read, with names of its own and plausible steps.
#[test]
fn all_recordings_are_read() {
    let Some(root) = data("all_recordings_are_read") else { return };
    let all = load_all(&root).unwrap();
    assert_eq!(all.len(), names().len());
    for series in &all {
        let (sum, known, missing) = totals(series);
        assert!(sum.is_finite() && known > 100 && series.step > 0, "{} {sum} {known} {missing}", series.name);
    }
}

/// Guarantees: the numbers of rows, sums and gaps are those that the folder's description gives.
#[test]
fn counts_are_those_of_the_description() {
    let Some(root) = data("counts_are_those_of_the_description") else { return };
    let read = |name: &str| totals(&load(&root, name).unwrap());
    let (_, known, missing) = read("elb");
    assert_eq!((known, missing), (4032, 8));
    assert_eq!((read("genai").0.round(), read("genai").2), (26_823.0, 0));
    assert_eq!((read("azure-llm").0.round(), read("mooncake").0.round()), (8_819.0, 12_031.0));
    assert_eq!((read("wikipedia").1, read("taylor").1, read("nyc-taxi").1), (1_483, 4_032, 10_320));
    // 28 Jul 13:32 – 1 Aug 00:00 and 1 Aug 14:52 – 3 Aug 04:36, and nothing else.
    let (_, known, missing) = read("nasa");
    assert_eq!((known + missing, missing), (62 * 1440, 4_947 + 2_263));
}

/// Guarantees: the counters of the web server give its ten or so requests per second.
#[test]
fn counters_become_rates() {
    let Some(root) = data("counters_become_rates") else { return };
    let rates = load(&root, "nginx").unwrap().rates();
    let known: Vec<f64> = rates.iter().copied().flatten().collect();
    let mean = known.iter().sum::<f64>() / f64::from(u32::try_from(known.len()).unwrap());
    assert!(known.len() > 240 && (5.0..25.0).contains(&mean), "{mean} {}", known.len());
}

/// Guarantees: the contest has 414 series of 700 or 960 hours and 48 to come.
#[test]
fn contest_is_read() {
    let Some(root) = data("contest_is_read") else { return };
    let all = m4_hourly(&root).unwrap();
    assert_eq!(all.len(), 414);
    assert!(all.iter().all(|series| [700, 960].contains(&series.given.len()) && series.came.len() == 48));
}

/// Guarantees: a wrong name and a wrong folder are told with what to do.
#[test]
fn errors_say_what_to_do() {
    let unknown = load(&PathBuf::from("nowhere"), "tweets").unwrap_err().to_string();
    assert!(unknown.contains("tweets") && unknown.contains("twitter-amzn"), "{unknown}");
    let absent = load(&PathBuf::from("nowhere"), "nasa").unwrap_err().to_string();
    assert!(absent.contains("nasa.csv") && absent.contains("hint"), "{absent}");
}
