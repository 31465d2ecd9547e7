//! Queries over the past on several machines: two workers on ports of this one give what one process gives, and say which of
//! them is at fault when they do not.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BinaryArray, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int64Array, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Int32Type, Schema};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tracescale_core::attributes::{Value, push};
use tracescale_core::time::Timestamp;
use tracescale_queries::past::worker;
use tracescale_queries::{Asked, Cluster, Past, PastFile, PastLimits, PastQuery, PastTable, QueryError};

const LIMITS: PastLimits = PastLimits { memory: 256 << 20, threads: 2 };
const SERVICES: [&str; 5] = ["cart", "checkout", "currency", "payment", "shipping"];
/// Files of each table, and rows of each file and of memory.
const FILES: usize = 6;
const ROWS: usize = 400;
/// Longest wait for an error; never reached when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// What local execution and workers must agree about, and whether the files in it are worth distributing.
const QUERIES: &[(&str, bool)] = &[
    ("SELECT service_name, count(*) AS n, sum(duration) AS busy, min(time), max(id) FROM requests GROUP BY service_name", true),
    ("SELECT count(*), avg(duration), count(DISTINCT service_name) FROM requests", true),
    (
        "SELECT window_start, window_end, service_name, sum(adjusted_count) / window_seconds() AS rate, \
                quantile(duration, 0.5, adjusted_count) AS p50, quantile(duration, 0.99, adjusted_count) AS p99 \
         FROM HOP(requests, time, INTERVAL '30 seconds', INTERVAL '2 minutes') \
         WHERE duration > 0.01 GROUP BY window_start, window_end, service_name",
        true,
    ),
    (
        "SELECT service_name, histogram_count(h) AS n, histogram_quantile(h, 0.9) AS p90, histogram_fraction_above(h, 0.25) AS slow, \
                replicas_for_load(n / 600.0, 0.2, servers => 2, utilization => 0.5) AS replicas \
         FROM (SELECT service_name, histogram(duration, adjusted_count) AS h, count(*) AS n FROM requests GROUP BY service_name)",
        true,
    ),
    (
        "SELECT attributes['tenant'] AS tenant, sum(attribute_number(attributes, 'items')) AS items, max(attribute(attributes, 'none')) \
         FROM requests GROUP BY attributes['tenant']",
        true,
    ),
    (
        "SELECT attribute(resource_attributes, 'tenant') AS owner, resource_attributes, count(*), min(trace_id) FROM requests \
         GROUP BY resource_attributes",
        true,
    ),
    (
        "SELECT l.window_end, l.service_name, l.value + e.value AS both FROM load l JOIN errors e USING (window_end, service_name) \
         WHERE l.window_end > latest() - INTERVAL '20 minutes'",
        true,
    ),
    ("SELECT service_name, value, latest() AS newest FROM load WHERE window_end = latest()", false),
    (
        "SELECT service_name, sum(value) AS s FROM load WHERE window_end < latest() GROUP BY service_name HAVING max(window_end) < latest()",
        true,
    ),
    ("SELECT l.service_name, count(e.value) FROM load l LEFT JOIN errors e ON l.value = e.value AND e.value > 90 GROUP BY 1", true),
    (
        "SELECT window_end, service_name, value - lag(value) OVER (PARTITION BY service_name ORDER BY window_end) AS change \
         FROM load WHERE service_name <> 'cart'",
        true,
    ),
    ("SELECT id, service_name FROM requests WHERE duration > (SELECT avg(duration) * 1.5 FROM requests)", true),
    ("SELECT service_name FROM load WHERE value > 50 UNION SELECT service_name FROM errors", true),
    ("SELECT * FROM requests WHERE service_name = 'payment' AND id % 7 = 0", true),
    ("SELECT service_name FROM recent WHERE value > 3", false),
    ("SELECT r.service_name, sum(r.duration * n.value) FROM requests r JOIN recent n USING (service_name) GROUP BY r.service_name", true),
];

/// Queries whose order counts.
const ORDERED: &[&str] = &[
    "SELECT time, id, duration FROM requests ORDER BY duration DESC, id LIMIT 17",
    "SELECT service_name, sum(duration) AS busy FROM requests GROUP BY service_name ORDER BY busy DESC, service_name",
    "SELECT id FROM requests WHERE service_name IN ('cart', 'shipping') ORDER BY id LIMIT 5 OFFSET 100",
];

/// A worker with threads of its own, so that it can die.
struct Running {
    url: String,
    runtime: Option<Runtime>,
}

/// Recorded tables, and the store that their files are in.
struct Recorded {
    tables: Vec<PastTable>,
    store: Arc<InMemory>,
}

// === impl Running ===

impl Running {
    fn start(store: Arc<dyn ObjectStore>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        runtime.spawn(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            send.send(listener.local_addr().unwrap()).unwrap();
            let service = worker(store, LIMITS).unwrap().into_worker_server();
            Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
        });
        Self { url: format!("http://{}", receive.recv_timeout(PATIENCE).unwrap()), runtime: Some(runtime) }
    }

    /// Like a process that is killed: all its connections break.
    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

// === impl Recorded ===

impl Recorded {
    async fn new() -> Self {
        let store = Arc::new(InMemory::new());
        let mut tables = Vec::new();
        for (name, time, make) in
            [("requests", "time", requests as fn(usize) -> RecordBatch), ("load", "window_end", load), ("errors", "window_end", errors)]
        {
            let mut files = Vec::new();
            for file in 0..FILES {
                files.push(write(&store, &format!("{name}/{file}.parquet"), &make(file), time).await);
            }
            let rows = vec![make(FILES), make(FILES + 1)];
            tables.push(PastTable { name: name.to_owned(), schema: rows[0].schema(), time_column: time.to_owned(), files, rows });
        }
        let rows = vec![load(0).slice(0, SERVICES.len())];
        let recent =
            PastTable { name: "recent".to_owned(), schema: rows[0].schema(), time_column: "window_end".to_owned(), files: vec![], rows };
        tables.push(recent);
        Self { tables, store }
    }

    fn past(&self) -> Past {
        Past::new(self.tables.clone(), Some(Arc::clone(&self.store) as _), LIMITS).unwrap()
    }

    /// With a byte of work for each thread: whatever can be distributed is.
    fn with_workers(&self, workers: &[&Running]) -> Past {
        let urls: Vec<&str> = workers.iter().map(|worker| worker.url.as_str()).collect();
        self.past().with_cluster(Cluster::new(&urls).unwrap().with_share(1))
    }
}

async fn write(store: &InMemory, path: &str, rows: &RecordBatch, time: &str) -> PastFile {
    let mut bytes = Vec::new();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(ROWS / 4)).build();
    let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties)).unwrap();
    writer.write(rows).unwrap();
    assert_eq!(writer.close().unwrap().row_groups().len(), 4);
    let times = rows.column_by_name(time).unwrap();
    let times = times.as_any().downcast_ref::<TimestampNanosecondArray>().unwrap();
    let [least, most] = [arrow::compute::min(times), arrow::compute::max(times)].map(|time| Timestamp::from_nanos(time.unwrap()));
    let file = PastFile {
        path: path.to_owned(),
        bytes: bytes.len() as u64,
        rows: rows.num_rows() as u64,
        time: Some((least, most)),
        texts: std::collections::BTreeMap::new(),
    };
    store.put(&path.into(), bytes.into()).await.unwrap();
    file
}

/// Sums of these numbers are exact, in whatever order they are added.
fn requests(part: usize) -> RecordBatch {
    let ids = part * ROWS..(part + 1) * ROWS;
    let repeated = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Binary));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("time", Arc::new(ids.clone().map(|id| Some(id as i64 * 250_000_000)).collect::<TimestampNanosecondArray>())),
        ("id", Arc::new(Int64Array::from_iter_values(ids.clone().map(|id| id as i64)))),
        ("service_name", services(ids.clone().map(|id| id * 7 % 11 % SERVICES.len()))),
        ("duration", Arc::new(ids.clone().map(|id| (id % 13 != 0).then_some((id * 37 % 512) as f64 / 1024.0)).collect::<Float64Array>())),
        ("adjusted_count", Arc::new(Float64Array::from_iter_values(ids.clone().map(|id| (1 << (id % 3)) as f64)))),
        ("attributes", attributes(ids.clone())),
        ("resource_attributes", arrow::compute::cast(&attributes(ids.clone().map(|id| id / 50)), &repeated).unwrap()),
        ("trace_id", Arc::new(FixedSizeBinaryArray::try_from_iter(ids.map(|id| (id as u128).to_be_bytes())).unwrap())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn load(part: usize) -> RecordBatch {
    windows(part, |row| (row * 31 % 97) as f64)
}

fn errors(part: usize) -> RecordBatch {
    // Two windows behind, so that the views do not have the same newest one.
    windows(part, |row| (row * 17 % 101) as f64).slice(0, ROWS - 2 * SERVICES.len())
}

fn windows(part: usize, value: fn(usize) -> f64) -> RecordBatch {
    let rows = part * ROWS..(part + 1) * ROWS;
    let ends = rows.clone().map(|row| Some((row / SERVICES.len()) as i64 * 5_000_000_000));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("window_end", Arc::new(ends.collect::<TimestampNanosecondArray>())),
        ("service_name", services(rows.clone().map(|row| row % SERVICES.len()))),
        ("value", Arc::new(Float64Array::from_iter_values(rows.map(value)))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn services(indices: impl Iterator<Item = usize>) -> ArrayRef {
    Arc::new(indices.map(|index| SERVICES[index]).collect::<DictionaryArray<Int32Type>>())
}

fn attributes(ids: impl Iterator<Item = usize>) -> ArrayRef {
    let encoded = |id: usize| {
        let mut bytes = Vec::new();
        push(&mut bytes, "tenant", Value::Text(["a", "b", "c"][id % 3]));
        push(&mut bytes, "items", Value::Integer((id % 5) as i64));
        bytes
    };
    Arc::new(BinaryArray::from_iter_values(ids.map(encoded)))
}

/// The rows as text, in their order.
async fn answer(query: &PastQuery) -> Result<Vec<String>, QueryError> {
    let mut lines = Vec::new();
    for rows in tokio::time::timeout(PATIENCE, query.collect()).await.unwrap()? {
        assert_eq!(types(&rows.schema()), types(&query.schema()));
        let cell = |row| move |column: &ArrayRef| array_value_to_string(column, row).unwrap();
        lines.extend((0..rows.num_rows()).map(|row| rows.columns().iter().map(cell(row)).collect::<Vec<_>>().join(" | ")));
    }
    Ok(lines)
}

fn types(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_unstable();
    lines
}

/// Guarantees: workers give the rows that one process gives: groups, windows, sketches, functions, attributes, joins, sub-queries,
/// window functions; with rows in memory beside those in files, and with `latest()`, which only the asking process knows.
#[tokio::test]
async fn workers_agree_with_one_process() {
    let recorded = Recorded::new().await;
    let workers = [Running::start(Arc::clone(&recorded.store) as _), Running::start(Arc::clone(&recorded.store) as _)];
    let (alone, together) = (recorded.past(), recorded.with_workers(&workers.each_ref()));
    for (sql, is_large) in QUERIES {
        let (expected, query) =
            (alone.prepare(sql).await.unwrap(), together.prepare(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")));
        assert!(!expected.is_distributed());
        assert!(query.is_distributed() || !is_large, "{sql}\n{}", query.explain(false));
        let expected = sorted(answer(&expected).await.unwrap());
        assert!(!expected.is_empty(), "{sql}");
        let answered = answer(&query).await.unwrap_or_else(|error| panic!("{sql}: {error}\n{}", query.explain(false)));
        assert_eq!(sorted(answered), expected, "{sql}\n{}", query.explain(false));
    }
    for sql in ORDERED {
        let query = together.prepare(sql).await.unwrap();
        assert!(query.is_distributed(), "{sql}");
        assert_eq!(answer(&query).await.unwrap(), answer(&alone.prepare(sql).await.unwrap()).await.unwrap(), "{sql}");
    }
}

/// Guarantees: the plan shows which tasks read which files, needs no worker to be there, and after a run has what all of them did.
#[tokio::test]
async fn plans_show_what_workers_do() {
    let recorded = Recorded::new().await;
    let mut workers = [Running::start(Arc::clone(&recorded.store) as _), Running::start(Arc::clone(&recorded.store) as _)];
    let past = recorded.with_workers(&workers.each_ref());
    let sql = "SELECT service_name, count(*) FROM requests GROUP BY service_name";
    let query = past.prepare(&format!("EXPLAIN ANALYZE {sql}")).await.unwrap();
    assert_eq!((query.asked(), query.files()["requests"].read), (Asked::Analysis, FILES as u64));
    assert_eq!(answer(&query).await.unwrap().len(), SERVICES.len());
    let analysis = query.analysis().await.unwrap();
    // What the tasks read from files and from memory, added up.
    let read = analysis.lines().filter(|line| line.contains("UnionExec")).any(|line| line.contains("output_rows=3.20 K"));
    assert!(read, "{analysis}");
    workers.iter_mut().for_each(Running::kill);
    let plan = past.prepare(&format!("EXPLAIN {sql}")).await.unwrap().explain(false);
    for part in ["DistributedExec", "NetworkShuffleExec", "tasks=2", "t1: DataSourceExec: file_groups", "requests/5.parquet"] {
        assert!(plan.contains(part), "{part} is missing in:\n{plan}");
    }
}

/// Guarantees: rows are assigned to windows and aggregated by the workers that read them, and only groups are sent on.
#[tokio::test]
async fn windows_are_made_where_rows_are_read() {
    let recorded = Recorded::new().await;
    let workers = [Running::start(Arc::clone(&recorded.store) as _), Running::start(Arc::clone(&recorded.store) as _)];
    let sql = "SELECT window_end, service_name, quantile(duration, 0.9) AS p90 \
               FROM HOP(requests, time, INTERVAL '30 seconds', INTERVAL '2 minutes') GROUP BY window_end, service_name";
    let plan = recorded.with_workers(&workers.each_ref()).prepare(sql).await.unwrap().explain(false);
    let stages: Vec<&str> = plan.split("┌─────").collect();
    let reading = stages.iter().find(|stage| stage.contains("requests/5.parquet")).unwrap();
    assert!(reading.contains("tasks=2") && reading.contains("mode=Partial") && reading.contains("JoinExec"), "{plan}");
}

/// Guarantees: what is small is not worth sending, and runs where it was asked.
#[tokio::test]
async fn small_scans_stay_here() {
    let recorded = Recorded::new().await;
    let worker = Running::start(Arc::clone(&recorded.store) as _);
    let past = recorded.past().with_cluster(Cluster::new(&[&worker.url]).unwrap());
    let query = past.prepare("SELECT count(*) FROM requests").await.unwrap();
    assert!(!query.is_distributed());
    assert_eq!(answer(&query).await.unwrap(), [((FILES + 2) * ROWS).to_string()]);
}

/// Guarantees: a worker that is not there is named before the query begins, with what to do.
#[tokio::test]
async fn an_absent_worker_is_named() {
    let recorded = Recorded::new().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (here, gone) = (Running::start(Arc::clone(&recorded.store) as _), Running { url: format!("http://{nobody}"), runtime: None });
    let past = recorded.with_workers(&[&here, &gone]);
    let error = past.prepare("SELECT count(*) FROM requests").await.unwrap_err();
    let QueryError::Worker { url, problem } = &error else { panic!("{error:?}") };
    assert_eq!(url.trim_end_matches('/'), gone.url);
    assert!(problem.starts_with("cannot be reached: Connection refused") && problem.contains("--workers"), "{problem}");
}

/// Guarantees: a worker that dies while it works makes the query fail with its name, and does not make it wait or come short.
#[tokio::test]
async fn a_worker_that_dies_is_named() {
    let recorded = Recorded::new().await;
    // Its files never come.
    let stuck = ThrottledStore::new(
        Arc::clone(&recorded.store),
        ThrottleConfig { wait_get_per_call: Duration::from_secs(3600), ..Default::default() },
    );
    let (here, mut dying) = (Running::start(Arc::clone(&recorded.store) as _), Running::start(Arc::new(stuck)));
    let past = recorded.with_workers(&[&here, &dying]);
    let query = past.prepare("SELECT service_name, count(*) FROM requests GROUP BY service_name").await.unwrap();
    let url = dying.url.clone();
    let kill = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        dying.kill();
    };
    let (answered, ()) = tokio::join!(answer(&query), kill);
    let error = answered.unwrap_err().to_string();
    assert!(error.contains(&format!("worker {url}")) && error.contains("was lost while the query ran"), "{error}");
    assert!(error.contains("run the query again"), "{error}");
}

/// Guarantees: a worker that falls silent without breaking its connections, as a machine without power does, is not waited for.
#[tokio::test]
async fn a_silent_worker_is_named() {
    let recorded = Recorded::new().await;
    let stuck = ThrottledStore::new(
        Arc::clone(&recorded.store),
        ThrottleConfig { wait_get_per_call: Duration::from_secs(3600), ..Default::default() },
    );
    let (here, silent) = (Running::start(Arc::clone(&recorded.store) as _), Running::start(Arc::new(stuck)));
    let cluster = Cluster::new(&[&here.url, &silent.url]).unwrap().with_share(1).with_patience(Duration::from_millis(500));
    let query = recorded.past().with_cluster(cluster).prepare("SELECT service_name, count(*) FROM requests GROUP BY 1").await.unwrap();
    let (release, blocked) = std::sync::mpsc::sync_channel::<()>(0);
    let block = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Its only thread.
        silent.runtime.as_ref().unwrap().spawn(async move { blocked.recv() });
    };
    let (answered, ()) = tokio::join!(answer(&query), block);
    drop(release);
    let error = answered.unwrap_err().to_string();
    assert!(error.contains(&format!("worker {}", silent.url)) && error.contains("no answer within 500ms"), "{error}");
}

/// Guarantees: what goes wrong on a worker is told as it is, with the worker's name.
#[tokio::test]
async fn a_failure_on_a_worker_is_told() {
    let mut recorded = Recorded::new().await;
    let workers = [Running::start(Arc::clone(&recorded.store) as _), Running::start(Arc::clone(&recorded.store) as _)];
    let past = recorded.with_workers(&workers.each_ref());
    let query = past.prepare("SELECT sum(id / (id - 777)) FROM requests GROUP BY service_name").await.unwrap();
    let error = answer(&query).await.unwrap_err().to_string();
    assert!(error.starts_with("worker http://") && error.to_lowercase().contains("divide by zero"), "{error}");
    let table = recorded.tables.iter_mut().find(|table| table.name == "requests").unwrap();
    table.files[3].path = "requests/missing.parquet".to_owned();
    let query = recorded.with_workers(&workers.each_ref()).prepare("SELECT service_name, count(*) FROM requests GROUP BY 1").await.unwrap();
    let error = answer(&query).await.unwrap_err().to_string();
    assert!(error.contains("worker http://") && error.contains("requests/missing.parquet"), "{error}");
}
