//! How fast filters are on 100,000 policies; run by hand:
//! `cargo test --release -p edict-filter --test it measure -- --ignored --nocapture`

use std::time::Instant;

use edict_filter::{Arg, Column, Dialect, Filter, Kind, Table};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, sqlite::SqliteConnectOptions};

use crate::databases::block_on;

const ROWS: i64 = 100_000;
const TABLE: Table<'static> = Table {
    doc: "p.doc",
    columns: &[
        Column { path: "name", sql: "p.name", kind: Kind::Text },
        Column { path: "tags", sql: "p.tags", kind: Kind::Text },
    ],
};

fn policy(number: i64) -> Value {
    let name = format!("policy_{}", number / 20);
    let tags = format!("ip,{},team{}", if number % 5_000 == 0 { "security" } else { "network" }, number % 97);
    let ips = json!({"type": "array", "max_length": 100, "items": {"type": "string", "pattern": "^\\d{1,3}(\\.\\d{1,3}){3}$"}});
    let schema = json!({"ip": {"type": "string", "description": "the address to check against the lists", "length": 15}});
    json!({
        "name": name, "version": format!("1.{}", number % 20), "release_tag": "beta", "tags": tags,
        "policy_rule_uri": format!("{name}:1.{}-beta", number % 20), "code": "http://example.com/ip_allowlist.zip",
        "metadata": {"author": {"name": "A. Author", "email": "author@example.com"}, "category": "networking", "number": number},
        "description": "Policy that checks whether a given IP is allowed based on a local list and a remote API. ".repeat(3),
        "policy_input_schema": schema, "policy_output_schema": schema, "policy_settings_schema": schema,
        "policy_parameters_schema": {"local_allowlist": ips}, "policy_settings": {"allowlist_api": "https://example.com/api"},
        "policy_parameters": {"local_allowlist": ["127.0.0.1", "192.168.0.1", format!("10.0.{}.{}", number / 256 % 256, number % 256)]},
        "management_commands_schema": [
            {"name": "update_local_allowlist", "description": "Replace the local list", "schema": {"ips": ips}},
            {"name": "fetch_remote_allowlist", "description": "Refresh the list", "schema": {}},
        ],
    })
}

#[test]
#[ignore = "a measurement"]
fn a_hundred_thousand_policies() {
    println!("a document has {} bytes", policy(12_345).to_string().len());
    block_on(async {
        sqlite().await;
        match std::env::var("EDICT_TEST_POSTGRES_URL") {
            Ok(url) => postgres(&url).await,
            Err(_) => println!("PostgreSQL was left out: EDICT_TEST_POSTGRES_URL is not set"),
        }
    });
}

fn queries() -> Vec<(&'static str, Value)> {
    vec![
        ("equal, indexed column, 20 hits", json!({"name": "policy_17"})),
        ("regex on tags, 20 hits", json!({"tags": {"$regex": "security"}})),
        ("regex on tags, no hit", json!({"tags": {"$regex": "s[xyz]+q$"}})),
        (
            "the spec's query",
            json!({"release_tag": "beta", "tags": {"$regex": "security"}, "version": {"$gte": "1.0"}}),
        ),
        ("equal in the document", json!({"metadata.number": 4_711})),
        ("element in the document", json!({"policy_parameters.local_allowlist": "10.0.7.7"})),
        ("greater in the document", json!({"metadata.number": {"$gt": 99_990}})),
        ("null in the document", json!({"metadata.author.phone": null, "name": "policy_17"})),
    ]
}

async fn sqlite() {
    let folder = std::env::temp_dir().join(format!("edict-filter-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let options =
        SqliteConnectOptions::new().filename(folder.join("db")).create_if_missing(true).with_regexp();
    let mut db = options.connect().await.unwrap();
    let create = "CREATE TABLE policies (id INTEGER PRIMARY KEY, name TEXT NOT NULL, tags TEXT NOT NULL, doc TEXT NOT NULL)";
    sqlx::query(create).execute(&mut db).await.unwrap();
    let mut transaction = db.begin().await.unwrap();
    for number in 0..ROWS {
        let doc = policy(number);
        sqlx::query("INSERT INTO policies VALUES ($1, $2, $3, $4)")
            .bind(number)
            .bind(doc["name"].as_str().unwrap())
            .bind(doc["tags"].as_str().unwrap())
            .bind(doc.to_string())
            .execute(&mut *transaction)
            .await
            .unwrap();
    }
    transaction.commit().await.unwrap();
    for index in
        ["CREATE INDEX policies_name ON policies (name)", "CREATE INDEX policies_tags ON policies (tags)"]
    {
        sqlx::query(index).execute(&mut db).await.unwrap();
    }
    for (about, filter) in queries() {
        let sql = Filter::parse(&filter).unwrap().to_sql(Dialect::Sqlite, &TABLE, 1).unwrap();
        let forms = [
            ("plain", format!("SELECT p.doc FROM policies p WHERE {}", sql.text)),
            (
                "ids first",
                format!(
                    "SELECT doc FROM policies WHERE id IN (SELECT p.id FROM policies p WHERE {})",
                    sql.text
                ),
            ),
        ];
        for (form, text) in forms {
            let mut best = f64::MAX;
            let mut hits = 0;
            for _ in 0..5 {
                let mut query = sqlx::query_scalar::<_, String>(AssertSqlSafe(text.clone()));
                for arg in &sql.args {
                    query = match arg {
                        Arg::Text(text) => query.bind(text.clone()),
                        Arg::Integer(integer) => query.bind(*integer),
                    };
                }
                let started = Instant::now();
                hits = query.fetch_all(&mut db).await.unwrap().len();
                best = best.min(started.elapsed().as_secs_f64() * 1e3);
            }
            println!("SQLite      {best:9.2} ms  {hits:6} hits  {about} ({form})");
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

async fn postgres(url: &str) {
    let mut db = PgConnection::connect(url).await.unwrap();
    for text in [
        "SET jit = off",
        "CREATE TEMPORARY TABLE policies (id bigint PRIMARY KEY, name text COLLATE \"C\" NOT NULL, \
         tags text COLLATE \"C\" NOT NULL, doc jsonb NOT NULL)",
    ] {
        sqlx::query(text).execute(&mut db).await.unwrap();
    }
    let mut transaction = db.begin().await.unwrap();
    for number in 0..ROWS {
        let doc = policy(number);
        sqlx::query("INSERT INTO policies VALUES ($1, $2, $3, $4::jsonb)")
            .bind(number)
            .bind(doc["name"].as_str().unwrap())
            .bind(doc["tags"].as_str().unwrap())
            .bind(doc.to_string())
            .execute(&mut *transaction)
            .await
            .unwrap();
    }
    transaction.commit().await.unwrap();
    for text in [
        "CREATE INDEX ON policies (name)",
        "CREATE INDEX ON policies (tags)",
        "CREATE INDEX ON policies USING gin (doc jsonb_path_ops)",
        "ANALYZE policies",
    ] {
        sqlx::query(text).execute(&mut db).await.unwrap();
    }
    for (about, filter) in queries() {
        let sql = Filter::parse(&filter).unwrap().to_sql(Dialect::Postgres, &TABLE, 1).unwrap();
        let text = format!("SELECT p.doc::text FROM policies p WHERE {}", sql.text);
        let mut best = f64::MAX;
        let mut hits = 0;
        for _ in 0..5 {
            let mut query = sqlx::query_scalar::<_, String>(AssertSqlSafe(text.clone()));
            for arg in &sql.args {
                query = match arg {
                    Arg::Text(text) => query.bind(text.clone()),
                    Arg::Integer(integer) => query.bind(*integer),
                };
            }
            let started = Instant::now();
            hits = query.fetch_all(&mut db).await.unwrap().len();
            best = best.min(started.elapsed().as_secs_f64() * 1e3);
        }
        println!("PostgreSQL  {best:9.2} ms  {hits:6} hits  {about}");
    }
}
