//! What a rule is compared with: `current`, `hpa:cpu=70`, `kpa:target=20`, `keda:rate=50`, `static:8`, or a document.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tracescale_core::policy::{DirectionSpec, RateKind as CoreRate, SelectPolicy};
use tracescale_documents::foreign::{
    self, Behavior as ForeignBehavior, Form, Hpa as ForeignHpa, Metric, MetricSource, MetricTarget, ScaledObject,
};
use tracescale_simulate::baseline::Baseline;
use tracescale_simulate::baseline::fixed::{Current, Static};
use tracescale_simulate::baseline::hpa::{Behavior, HpaConfig, HpaMetric, Rate, RateKind, ScalingRules, Select};
use tracescale_simulate::baseline::keda::{Fallback, KedaConfig, MetricType};
use tracescale_simulate::baseline::kpa::KpaConfig;
use tracescale_simulate::baseline::seasonal::SeasonalConfig;
use tracescale_simulate::policy::Measure;
use tracescale_simulate::world::ServiceSpec;

use super::demand::ServiceDemand;

/// A policy beside the rule.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    /// As it was asked for.
    pub name: String,
    kind: Kind,
    settings: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
enum Kind {
    Current,
    Static,
    Hpa,
    Kpa,
    Keda,
    Seasonal,
    Foreign(Vec<(String, Form)>),
    /// A document of our own.
    Rule(PathBuf),
}

/// Fewest and most replicas where a policy names none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Fewest.
    pub min: u32,
    /// Most.
    pub max: u32,
}

/// How busy a replica is aimed at where nothing is said: what the shipped rule aims at.
const UTILIZATION: f64 = 0.7;
const FORMS: &str = "current, static:8, hpa:cpu=70, hpa:rate=50, kpa:target=20, keda:rate=50, seasonal:rate=50, or the file of a rule, an HPA or a ScaledObject";

// === impl Comparison ===

impl Comparison {
    /// Reads a list such as `current,hpa:cpu=70,max=40,kpa`: a part without a name belongs to the policy in front of it.
    ///
    /// # Errors
    /// Names the part that cannot be understood.
    pub(crate) fn parse_all(texts: &[String]) -> anyhow::Result<Vec<Self>> {
        let mut comparisons: Vec<Self> = Vec::new();
        for part in texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|part| !part.is_empty()) {
            match (part.split_once('='), part.contains(':'), comparisons.last_mut()) {
                (Some((key, value)), false, Some(last)) => {
                    last.settings.push((key.to_owned(), value.to_owned()));
                    last.name = format!("{},{part}", last.name);
                }
                _ => comparisons.push(Self::parse(part)?),
            }
        }
        Ok(comparisons)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let (name, settings) = text.split_once(':').unwrap_or((text, ""));
        let kind = match name {
            "current" => Kind::Current,
            "static" => Kind::Static,
            "hpa" => Kind::Hpa,
            "kpa" => Kind::Kpa,
            "keda" => Kind::Keda,
            "seasonal" => Kind::Seasonal,
            _ if Path::new(text).exists() => return document(Path::new(text)),
            _ => bail!("`{text}` is nothing to compare with: neither a policy nor a file; hint: {FORMS}"),
        };
        let setting = |text: &str| match text.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None if name == "static" => Ok(("replicas".to_owned(), text.to_owned())),
            None => bail!("`{text}` of `{name}` is no setting; hint: {FORMS}"),
        };
        let settings = settings.split(';').filter(|text| !text.is_empty()).map(setting).collect::<Result<_, _>>()?;
        Ok(Self { name: text.to_owned(), kind, settings })
    }

    /// The document of our own that this is, if it is one.
    #[must_use]
    pub(crate) fn rule(&self) -> Option<&Path> {
        if let Kind::Rule(path) = &self.kind { Some(path) } else { None }
    }

    /// The policy for one service; `None` when it says nothing about it.
    ///
    /// # Errors
    /// Names a setting that is unknown or wrong.
    pub(crate) fn baseline(&self, service: &ServiceDemand, spec: &ServiceSpec, limits: Limits) -> anyhow::Result<Option<Baseline>> {
        let servers = f64::from(spec.discipline.servers());
        let per_replica = UTILIZATION * servers / spec.service_time.mean();
        let baseline = self.build(service, servers, per_replica, limits);
        baseline.with_context(|| format!("comparison `{}`", self.name))
    }

    fn build(&self, service: &ServiceDemand, servers: f64, per_replica: f64, limits: Limits) -> anyhow::Result<Option<Baseline>> {
        let mut settings = Settings::new(&self.settings);
        let min = settings.count("min")?.unwrap_or(limits.min);
        let max = settings.count("max")?.unwrap_or(limits.max);
        ensure!(min <= max, "min {min} is above max {max}");
        let baseline = match &self.kind {
            Kind::Current => {
                if service.recorded.is_empty() {
                    return Ok(None);
                }
                Baseline::Current(Current { recorded: service.recorded.clone() })
            }
            Kind::Static => {
                let replicas = settings.count("replicas")?.context("how many? hint: static:8")?;
                Baseline::Static(Static { replicas })
            }
            Kind::Hpa => Baseline::Hpa(settings.hpa(servers, min, max)?),
            Kind::Kpa => {
                let mut config = KpaConfig { min_scale: min, max_scale: max, ..KpaConfig::default() };
                config.capacity = settings.number("target")?.unwrap_or(config.capacity);
                config.target_utilization = settings.share("utilization")?.unwrap_or(config.target_utilization);
                config.stable_window = settings.duration("window")?.unwrap_or(config.stable_window);
                Baseline::Kpa(config)
            }
            Kind::Keda => {
                let (measure, threshold) = settings.measure()?.unwrap_or((Measure::ArrivalRate, per_replica));
                let mut config = KedaConfig { measure, threshold, min_replicas: min, max_replicas: max, ..KedaConfig::default() };
                config.polling_interval = settings.duration("polling")?.unwrap_or(config.polling_interval);
                config.cooldown_period = settings.duration("cooldown")?.unwrap_or(config.cooldown_period);
                Baseline::Keda(config)
            }
            Kind::Seasonal => {
                let (measure, target) = settings.measure()?.unwrap_or((Measure::ArrivalRate, per_replica));
                let hpa = HpaConfig {
                    min_replicas: min,
                    max_replicas: max,
                    metrics: vec![HpaMetric::ExternalAverage { measure, average_value: target }],
                    ..HpaConfig::default()
                };
                let mut config = SeasonalConfig { hpa, measure, target, ..SeasonalConfig::default() };
                config.period = settings.duration("period")?.unwrap_or(config.period);
                Baseline::Seasonal(Box::new(config))
            }
            Kind::Foreign(forms) => {
                let Some((_, form)) = forms.iter().find(|(name, _)| *name == service.name || forms.len() == 1) else { return Ok(None) };
                match form {
                    Form::Hpa(hpa) => Baseline::Hpa(from_hpa(hpa, servers)?),
                    Form::Keda(object) => Baseline::Keda(from_keda(object)?),
                    _ => bail!("only HPA and ScaledObject documents can be simulated; hint: `tracescale import` makes a rule of this one"),
                }
            }
            Kind::Rule(_) => return Ok(None),
        };
        settings.finish()?;
        Ok(Some(baseline))
    }
}

fn document(path: &Path) -> anyhow::Result<Comparison> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("comparison {name}"))?;
    if text.contains("tracescale.io/") {
        return Ok(Comparison { name, kind: Kind::Rule(path.to_owned()), settings: Vec::new() });
    }
    let import = foreign::read(&name, &text).map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("comparison {name}:\n{}", all.join("\n"))
    })?;
    let form = |imported: foreign::Imported| {
        let service = match &imported.form {
            Form::Hpa(hpa) => hpa.target.name.clone(),
            Form::Keda(object) => object.target.name.clone(),
            _ => imported.name.clone(),
        };
        (service, imported.form)
    };
    Ok(Comparison { name, kind: Kind::Foreign(import.imported.into_iter().map(form).collect()), settings: Vec::new() })
}

fn from_hpa(hpa: &ForeignHpa, servers: f64) -> anyhow::Result<HpaConfig> {
    let metrics = hpa.metrics.iter().map(|metric| hpa_metric(metric, servers)).collect::<Result<_, _>>()?;
    let behavior = hpa.behavior.as_ref().map(behavior);
    Ok(HpaConfig { min_replicas: hpa.min, max_replicas: hpa.max, metrics, behavior, ..HpaConfig::default() })
}

fn hpa_metric(metric: &Metric, servers: f64) -> anyhow::Result<HpaMetric> {
    use MetricSource as Source;
    use MetricTarget as Target;
    Ok(match (&metric.source, metric.target) {
        (Source::Resource { name } | Source::ContainerResource { name, .. }, Target::Utilization(utilization)) if name == "cpu" => {
            HpaMetric::Cpu { utilization, request: servers }
        }
        (Source::Resource { name } | Source::ContainerResource { name, .. }, Target::AverageValue(average_value)) if name == "cpu" => {
            HpaMetric::Pods { measure: Measure::Cpu, average_value }
        }
        (Source::Resource { name } | Source::ContainerResource { name, .. }, _) => bail!("{name} is not simulated"),
        (Source::Pods { name }, Target::AverageValue(average_value)) => HpaMetric::Pods { measure: measure(name)?, average_value },
        (Source::Object { name, .. } | Source::External { name }, Target::AverageValue(average_value)) => {
            HpaMetric::ExternalAverage { measure: measure(name)?, average_value }
        }
        (Source::Object { name, .. } | Source::External { name }, Target::Value(value)) => {
            HpaMetric::ExternalValue { measure: measure(name)?, value }
        }
        (source, target) => bail!("{source:?} with {target:?} is not simulated"),
    })
}

fn from_keda(object: &ScaledObject) -> anyhow::Result<KedaConfig> {
    let [trigger] = &object.triggers[..] else {
        bail!("only scaled objects with one trigger are simulated, this one has {}", object.triggers.len())
    };
    let mut config = KedaConfig {
        polling_interval: object.polling_interval,
        cooldown_period: object.cooldown_period,
        initial_cooldown_period: object.initial_cooldown_period,
        min_replicas: object.min,
        max_replicas: object.max,
        idle_replicas: object.idle,
        fallback: object
            .fallback
            .as_ref()
            .map(|fallback| Fallback { failure_threshold: fallback.failure_threshold, replicas: fallback.replicas }),
        behavior: object.behavior.as_ref().map(behavior),
        ..KedaConfig::default()
    };
    let foreign::Demand::Prometheus { query, target, activation, ignore_null_values } = &trigger.demand else {
        bail!("only Prometheus triggers are simulated")
    };
    config.measure = measure(query)?;
    (config.metric_type, config.threshold) = match target {
        MetricTarget::AverageValue(value) => (MetricType::AverageValue, *value),
        MetricTarget::Value(value) => (MetricType::Value, *value),
        MetricTarget::Utilization(_) => bail!("a Prometheus trigger has no utilization"),
    };
    config.activation_threshold = *activation;
    config.ignore_null_values = *ignore_null_values;
    Ok(config)
}

/// The figure of the plant that a metric's name speaks of.
fn measure(name: &str) -> anyhow::Result<Measure> {
    let name = name.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if has(&["in_flight", "inflight", "concurren", "active"]) {
        Ok(Measure::Concurrency)
    } else if has(&["request", "rps", "qps", "rate"]) {
        Ok(Measure::ArrivalRate)
    } else if has(&["backlog", "queue", "lag", "depth"]) {
        Ok(Measure::Backlog)
    } else if has(&["cpu"]) {
        Ok(Measure::Cpu)
    } else {
        bail!("the metric `{name}` names nothing that is simulated: requests, requests in flight, backlog or cpu")
    }
}

fn behavior(foreign: &ForeignBehavior) -> Behavior {
    Behavior { scale_up: direction(&foreign.scale_up), scale_down: direction(&foreign.scale_down) }
}

fn direction(spec: &DirectionSpec) -> ScalingRules {
    let rate = |policy: &tracescale_core::policy::RatePolicy| Rate {
        kind: match policy.kind {
            CoreRate::Pods => RateKind::Pods,
            CoreRate::Percent => RateKind::Percent,
        },
        value: policy.value,
        period: policy.period,
    };
    ScalingRules {
        stabilization: Some(spec.stabilization_window),
        rates: Some(spec.policies.iter().map(rate).collect()),
        select: match spec.select_policy {
            SelectPolicy::Max => Select::Max,
            SelectPolicy::Min => Select::Min,
            SelectPolicy::Disabled => Select::Disabled,
        },
        tolerance: spec.tolerance,
    }
}

/// Settings of one comparison; each is used or told.
struct Settings<'a> {
    left: Vec<(&'a str, &'a str)>,
}

// === impl Settings ===

impl<'a> Settings<'a> {
    fn new(settings: &'a [(String, String)]) -> Self {
        Self { left: settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect() }
    }

    fn take(&mut self, key: &str) -> Option<&'a str> {
        let place = self.left.iter().position(|(known, _)| *known == key)?;
        Some(self.left.remove(place).1)
    }

    fn number(&mut self, key: &str) -> anyhow::Result<Option<f64>> {
        let Some(text) = self.take(key) else { return Ok(None) };
        let number = text.parse().ok().filter(|number: &f64| *number > 0.0 && number.is_finite());
        number.map(Some).with_context(|| format!("{key}={text} is not a number above zero; hint: {key}=50"))
    }

    /// A number of replicas.
    fn count(&mut self, key: &str) -> anyhow::Result<Option<u32>> {
        self.whole(key, 1_000_000, "replicas, such as 8")
    }

    fn whole(&mut self, key: &str, most: u32, hint: &str) -> anyhow::Result<Option<u32>> {
        let Some(text) = self.take(key) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| (1..=most).contains(number));
        number.map(Some).with_context(|| format!("{key}={text} is not a whole number from 1 to {most}; hint: {hint}"))
    }

    /// A share that is aimed at.
    fn share(&mut self, key: &str) -> anyhow::Result<Option<f64>> {
        let Some(text) = self.take(key) else { return Ok(None) };
        let share = text.parse().ok().filter(|share: &f64| *share > 0.0 && *share <= 1.0);
        share.map(Some).with_context(|| format!("{key}={text} is not a share above 0, at most 1; hint: {key}=0.7"))
    }

    fn duration(&mut self, key: &str) -> anyhow::Result<Option<Duration>> {
        let Some(text) = self.take(key) else { return Ok(None) };
        tracescale_core::duration::parse(text).map(Some).map_err(|error| anyhow::anyhow!("{key}={text}: {error}"))
    }

    /// What a replica is to have, by name.
    fn measure(&mut self) -> anyhow::Result<Option<(Measure, f64)>> {
        let names = [("rate", Measure::ArrivalRate), ("concurrency", Measure::Concurrency), ("backlog", Measure::Backlog)];
        for (name, measure) in names {
            if let Some(value) = self.number(name)? {
                return Ok(Some((measure, value)));
            }
        }
        Ok(None)
    }

    fn hpa(&mut self, servers: f64, min_replicas: u32, max_replicas: u32) -> anyhow::Result<HpaConfig> {
        let mut config = HpaConfig { min_replicas, max_replicas, ..HpaConfig::default() };
        let request = self.number("request")?.unwrap_or(servers);
        let cpu = self.whole("cpu", 10_000, "percent of the CPU that a replica asks for, such as 70")?;
        config.metrics = match (cpu, self.measure()?) {
            (None, Some((measure, average_value))) => vec![HpaMetric::ExternalAverage { measure, average_value }],
            (cpu, None) => vec![HpaMetric::Cpu { utilization: cpu.unwrap_or(80), request }],
            (Some(_), Some(_)) => bail!("cpu and another target at once; hint: write a document"),
        };
        config.downscale_stabilization = self.duration("stabilization")?.unwrap_or(config.downscale_stabilization);
        Ok(config)
    }

    fn finish(self) -> anyhow::Result<()> {
        match self.left.first() {
            Some((key, value)) => bail!("`{key}={value}` is no setting here; hint: {FORMS}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        Comparison::parse_all(&[text.to_owned()]).unwrap().into_iter().map(|comparison| comparison.name).collect()
    }

    /// Guarantees: lists are split into policies with their settings, and what is wrong is named.
    #[test]
    fn lists_are_read() {
        assert_eq!(names("current,hpa:cpu=70,max=40,kpa"), ["current", "hpa:cpu=70,max=40", "kpa"]);
        assert_eq!(names("static:8"), ["static:8"]);
        for (text, wanted) in [("vpa", "`vpa` is nothing to compare with"), ("hpa:cpu", "`cpu` of `hpa`")] {
            let error = Comparison::parse_all(&[text.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    /// Guarantees: settings reach the baseline, and an unknown or impossible one is an error that says what is possible.
    #[test]
    fn settings_reach_the_baseline() {
        let all = Comparison::parse_all(&["hpa:cpu=70,max=40".to_owned(), "keda:rate=50".to_owned()]).unwrap();
        let service = ServiceDemand {
            name: "cart".into(),
            namespace: None,
            rate: tracescale_simulate::series::Series::constant(1.0),
            work: tracescale_simulate::distribution::Distribution::Exponential { mean: 0.1 },
            recorded: Vec::new(),
        };
        let spec = ServiceSpec::new("cart", tracescale_simulate::world::Discipline::ProcessorSharing { cores: 2 }, service.work.clone());
        let limits = Limits { min: 1, max: 100 };
        let Some(Baseline::Hpa(hpa)) = all[0].baseline(&service, &spec, limits).unwrap() else { panic!("no HPA") };
        assert_eq!((hpa.max_replicas, hpa.metrics), (40, vec![HpaMetric::Cpu { utilization: 70, request: 2.0 }]));
        let Some(Baseline::Keda(keda)) = all[1].baseline(&service, &spec, limits).unwrap() else { panic!("no KEDA") };
        assert!((keda.threshold - 50.0).abs() < 1e-9);
        for (text, wanted) in [
            ("hpa:speed=3", "`speed=3` is no setting here"),
            ("hpa:cpu=1e9", "comparison `hpa:cpu=1e9`: cpu=1e9 is not a whole number from 1 to 10000; hint: percent"),
            ("hpa:cpu=1000000000", "cpu=1000000000 is not a whole number from 1 to 10000"),
            ("hpa:rate=-1", "rate=-1 is not a number above zero; hint: rate=50"),
            ("kpa:utilization=70", "utilization=70 is not a share above 0, at most 1; hint: utilization=0.7"),
            ("static:0", "replicas=0 is not a whole number from 1 to 1000000; hint: replicas"),
        ] {
            let comparison = &Comparison::parse_all(&[text.to_owned()]).unwrap()[0];
            let error = format!("{:#}", comparison.baseline(&service, &spec, limits).unwrap_err());
            assert!(error.contains(wanted), "{error}");
        }
    }
}
